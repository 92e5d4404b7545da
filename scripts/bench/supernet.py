#!/usr/bin/env python3
"""Times a sandwich step and an evaluation of this project against PyTorch, interleaved in one run.

    pip install torch safetensors numpy
    scripts/bench/supernet.py                       # every case
    scripts/bench/supernet.py --case nano,128,16    # SPACE,PX,BATCH

The same space file, weights, batch and sub-networks on both sides, two threads each. The losses of the first step must
agree, else it stops. PyTorch runs in NCHW and in channels_last; the faster one is the peer. Peak memory is that of the
whole process (VmHWM); `loaded` is what it held before the first step. On a busy machine PyTorch's threads wait for each
other actively: compare processor times with `--threads 1` there.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ["iccv21,224,4", "iccv21,320,2", "nano,128,16"]


class Worker:
    """A process that answers requests, idle between them."""

    def __init__(self, name, command, threads):
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.loaded = self.read()["loaded_mb"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} ended early")
        return json.loads(line)

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        return self.read()["peak_mb"]


def compare(title, request, workers, rounds):
    times, cpu = {w.name: [] for w in workers}, {w.name: [] for w in workers}
    first = {w.name: w.ask(request)["values"] for w in workers}
    ours = first["inas"]
    for name, values in first.items():
        worst = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(ours, values))
        print(f"  {name:<20} first values {' '.join(f'{v:.6f}' for v in values)}  (relative difference {worst:.1e})")
        if worst > 1e-3:
            sys.exit(f"error: {title}: {name} computes something else")
    for _ in range(rounds):
        for w in workers:
            answer = w.ask(request)
            times[w.name].append(answer["seconds"])
            cpu[w.name].append(answer["cpu"])
    peaks = {w.name: w.close() for w in workers}
    median = {n: statistics.median(t) for n, t in times.items()}
    for w in workers:
        t = times[w.name]
        print(f"  {w.name:<20} {median[w.name]:8.3f} s (best {min(t):.3f}, worst {max(t):.3f}; processor {min(cpu[w.name]):.2f})   "
              f"peak {peaks[w.name]:7.0f} MB, loaded {w.loaded:5.0f} MB")
    if request == "eval":
        rates = ", ".join(f"{n} {60 / min(cpu[n]):.1f}" for n in cpu)
        print(f"  evaluations in a minute of processor time: {rates}")
    peer = min((n for n in median if n != "inas"), key=median.get)
    paired = statistics.median(a / b for a, b in zip(times["inas"], times[peer]))
    base = {w.name: w.loaded for w in workers}
    print(f"  ratio to {peer}: time {median['inas'] / median[peer]:.3f} (median of rounds {paired:.3f}, of the best {min(times['inas']) / min(times[peer]):.3f}, "
          f"of processor time {min(cpu['inas']) / min(cpu[peer]):.3f}), "
          f"peak memory {peaks['inas'] / peaks[peer]:.3f}, "
          f"memory of the work alone {(peaks['inas'] - base['inas']) / (peaks[peer] - base[peer]):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", metavar="SPACE,PX,BATCH", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--what", choices=["step", "eval", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layouts", default="nchw,channels_last")
    args = parser.parse_args()

    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    subprocess.run(["cargo", "build", "--release", "--workspace", "--example", "supernet_bench", "--quiet"], cwd=ROOT, check=True)
    ours = str(target / "release/examples/supernet_bench")
    peer = str(Path(__file__).with_name("torch_supernet.py"))
    print(f"$ scripts/bench/supernet.py {' '.join(sys.argv[1:])}")
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    torch = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=True)
    print(f"{cpu}, {args.threads} threads, PyTorch {torch.stdout.strip()}, {args.rounds} interleaved rounds", flush=True)
    for case in args.case or CASES:
        space, px, batch = case.split(",")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([ours, "prepare", folder, space, px, batch], check=True)
            for what in ["step", "eval"] if args.what == "both" else [args.what]:
                workers = [Worker("inas", [ours, "serve", folder], args.threads)]
                for layout in args.layouts.split(","):
                    command = [sys.executable, peer, folder, layout, str(args.threads)]
                    workers.append(Worker(f"torch {layout}", command, args.threads))
                detail = f"{px} px, batch {batch}" if what == "step" else f"{px} px, recalibration 100 + validation 200 images"
                print(f"\n{space} {what}, {detail}", flush=True)
                compare(case, what, workers, args.rounds if what == "step" else max(1, args.rounds // 3))


if __name__ == "__main__":
    main()
