#!/usr/bin/env python3
"""Compares the time that profiling a space takes with the release's protocol in PyTorch, interleaved in one run.

    pip install torch
    scripts/bench/profile_cost.py                              # iccv21 at 224 px, both runtimes
    scripts/bench/profile_cost.py --space nano --slice 2       # a quick look

The release's protocol: 25 warm-up and 25 timed runs of every block, one after the other. `inas profile` measures for a
slice of time, is interrupted and later resumed; in between PyTorch measures its next share of the blocks, so that a slow
phase of the machine falls on both. Starting and resuming count for `inas`, importing PyTorch and making the blocks does
not count for PyTorch.
"""
import argparse
import csv
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
RUNS = 25
ACTS = {"silu": nn.SiLU, "relu": nn.ReLU, "relu6": nn.ReLU6, "hard_swish": nn.Hardswish}


def conv(i, o, k=1, stride=1, groups=1, bias=True):
    return nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=bias)


class MbConv(nn.Module):
    def __init__(self, key, act, reduction):
        super().__init__()
        i, o, s = key["in_ch"], key["out_ch"], key["s"]
        mid = i * key["e"]
        self.expand = nn.Sequential(conv(i, mid), act(), conv(mid, mid, key["k"], s, mid), act())
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv(mid, mid // reduction), nn.ReLU(), conv(mid // reduction, mid), nn.Hardsigmoid()
        ) if reduction else None
        self.project = conv(mid, o)
        self.pool = nn.AvgPool2d(s) if s > 1 else nn.Identity()
        self.shortcut = conv(i, o, bias=False) if i != o else nn.Identity()

    def forward(self, x):
        y = self.expand(x)
        if self.se is not None:
            y = y * self.se(y)
        return self.project(y) + self.shortcut(self.pool(x))


class Fusion(nn.Module):
    def __init__(self, key, act, units):
        super().__init__()
        c, k = key["in_ch"], key["k"]
        unit = lambda: nn.Sequential(conv(c, c, k, groups=c), conv(c, c))
        self.units = nn.Sequential(*(m for n in range(units) for m in (act(), unit())[n == 0:]))
        self.act, self.adds = act(), units > 1

    def forward(self, *xs):
        x = sum(xs) / len(xs) if len(xs) > 1 else xs[0]
        y = self.units(x)
        return self.act(x + y if self.adds else y)


class Upsample(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)


def block(key, act, reduction):
    """A block in deployed form and the number of its inputs."""
    i, o, kind = key["in_ch"], key["out_ch"], key["kind"]
    down, up = key["in_px"] // key["out_px"], key["out_px"] // key["in_px"]
    if kind == "stem":
        return nn.Sequential(conv(i, o, key["k"], key["s"]), act()), 1
    if kind == "mbconv":
        return MbConv(key, act, reduction), 1
    if kind in ("transport_fusion", "decoder_fusion"):
        return Fusion(key, act, 2 if kind == "transport_fusion" else 1), key["n"]
    layers = [nn.MaxPool2d(down)] if down > 1 else []
    layers += [conv(i, o, bias=kind != "head")]
    layers += [act()] if kind == "decoder_branch" else []
    layers += [nn.Sigmoid()] if kind == "head" else []
    layers += [Upsample(up)] if up > 1 else []
    return nn.Sequential(*layers), 1


def parse(text):
    kind, px, ch, *rest = text.split()
    key = dict(zip(("in_px", "out_px"), map(int, px.split("-"))), kind=kind)
    key.update(zip(("in_ch", "out_ch"), map(int, ch.split("-"))))
    key.update((field[0], int(field[1:])) for field in rest)
    return key


def measure(keys, act, reduction):
    """Seconds that the release's protocol takes for these blocks."""
    total = 0.0
    with torch.inference_mode():
        for key in keys:
            module, inputs = block(key, act, reduction)
            module.eval()
            xs = [torch.randn(1, key["in_ch"], key["in_px"], key["in_px"]) for _ in range(inputs)]
            start = time.perf_counter()
            for _ in range(2 * RUNS):
                module(*xs)
            total += time.perf_counter() - start
    return total


def profile(inas, args, runtime, folder):
    """One slice of `inas profile`: its seconds, and whether it is done."""
    command = [inas, "-q", "profile", "--space", args.space, "--px", str(args.px), "--runtime", runtime, "-o", folder]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(args.slice)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    error = process.communicate()[1].decode()
    if process.returncode not in (0, 130):
        sys.exit(f"error: {' '.join(command)}: {error}")
    return time.perf_counter() - start, process.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="iccv21")
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--runtimes", default="tract,ort")
    parser.add_argument("--slice", type=float, default=15, help="seconds of one side's turn")
    parser.add_argument("--inas", default=str(ROOT / "target/release/inas"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    space = subprocess.run([args.inas, "space", args.space, "--toml"], capture_output=True, text=True, check=True).stdout
    act = ACTS[re.search(r'activation = "(\w+)"', space)[1]]
    reduction = int((re.search(r"reduction = (\d+)", space) or [0, 0])[1])
    command = [args.inas, "space", args.space, "--px", str(args.px), "--keys"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    keys = [k for k in map(parse, lines) if "branch" not in k["kind"] or k["in_px"] != k["out_px"]]
    random.Random(0).shuffle(keys)
    measure(keys[:5], act, reduction)

    runtimes = args.runtimes.split(",")
    spent, pending, torch_s, at = dict.fromkeys(runtimes, 0.0), list(runtimes), 0.0, 0
    with tempfile.TemporaryDirectory() as root:
        while pending or at < len(keys):
            for runtime in list(pending):
                seconds, done = profile(args.inas, args, runtime, f"{root}/{runtime}")
                spent[runtime] += seconds
                if done:
                    pending.remove(runtime)
            turn = time.perf_counter()
            while at < len(keys) and (not pending or time.perf_counter() - turn < args.slice):
                torch_s += measure(keys[at : at + 1], act, reduction)
                at += 1
        print(f"{args.space} at {args.px} px: {len(keys)} blocks, 1 thread")
        print(f"  release's protocol in PyTorch {torch.__version__}: {torch_s:.0f} s")
        for runtime in runtimes:
            with open(f"{root}/{runtime}/blocks.csv", newline="") as file:
                rows = [{k: float(r[k]) for k in ("median_us", "ci_low_us", "ci_high_us", "runs")} for r in csv.DictReader(file)]
            rows = [r for r in rows if r["median_us"] > 0]
            ci = statistics.median((r["ci_high_us"] - r["ci_low_us"]) / 2 / r["median_us"] for r in rows)
            runs = statistics.median(r["runs"] for r in rows)
            print(
                f"  inas profile, {runtime}: {spent[runtime]:.0f} s, {spent[runtime] / torch_s:.2f} of it; "
                f"{runs:.0f} timed samples a block, median interval of a median +-{100 * ci:.2f} %"
            )


main()
