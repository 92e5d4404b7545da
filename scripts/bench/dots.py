#!/usr/bin/env python3
"""Times a step of operation search and one of topology search against PyTorch, interleaved in one run.

    pip install torch safetensors numpy
    scripts/bench/dots.py                      # C = 16, 8 cells, batch 64, 32 px
    scripts/bench/dots.py --case 16,8,16,32    # CHANNELS,CELLS,BATCH,PX
    scripts/bench/dots.py --layouts nchw       # the other layout; PyTorch needs about 12 GB a layout at batch 64

The same weights, batches and architecture on both sides. A step of operation search is one of the architecture on one
batch and one of the weights on another; one of topology search moves both from one batch. The losses of the first step
must agree, else it stops. On a busy machine compare processor times.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from supernet import ROOT, Worker, compare


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="16,8,64,32", metavar="CHANNELS,CELLS,BATCH,PX")
    parser.add_argument("--what", choices=["operation", "topology", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layouts", default="channels_last")
    args = parser.parse_args()

    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    subprocess.run(["cargo", "build", "--release", "-p", "inas-dots", "--example", "dots_bench", "--quiet"], cwd=ROOT, check=True)
    ours = str(target / "release/examples/dots_bench")
    peer = str(Path(__file__).with_name("torch_dots.py"))
    print(f"$ scripts/bench/dots.py {' '.join(sys.argv[1:])}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ours, "prepare", folder, *args.case.split(",")], check=True)
        for what in ["operation", "topology"] if args.what == "both" else [args.what]:
            workers = [Worker("inas", [ours, "serve", folder], args.threads)]
            for layout in args.layouts.split(","):
                workers.append(Worker(f"torch {layout}", [sys.executable, peer, folder, layout, str(args.threads)], args.threads))
            print(f"\n{what} step, channels, cells, batch, px {args.case}, {args.threads} threads", flush=True)
            compare(what, what, workers, args.rounds)


if __name__ == "__main__":
    main()
