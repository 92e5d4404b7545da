#!/usr/bin/env python3
"""Turns an exported model back into a supernet, to train it further: on one's own photos, or for longer.

    pip install numpy onnx onnxruntime pillow safetensors
    inas train --run lite --data train.lst --steps 1 --batch 1 --px 64 -o any
    scripts/weights/from-model.py models/best.onnx --like any/supernet.safetensors --data train.lst -o start.safetensors
    inas train --run lite --data train.lst --init start.safetensors ...

An exported model has no BN and one kernel for each unit. Every BN comes back from the mean and the deviation that the
photos of `--data` give its convolution, with a scale and a shift that put them back again, so the network computes what
the model computes. The kernel of a unit becomes that of its largest branch; the others start at zero. What the model does
not hold (other levels' outputs, branches it does not use) starts afresh or, in shortcuts, at zero.

Only models that are the largest network of their space can be taken back. `--like`, any supernet of that space, gives names
and shapes of its tensors, and the values that start afresh.
"""
import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import load_file, save_file

EPS = 1e-5
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--like", type=Path, required=True, help="any supernet of the model's space")
    parser.add_argument("--data", type=Path, required=True, help="list of photos and masks; the masks are not read")
    parser.add_argument("--photos", type=int, default=100, help="photos to take BN's means and deviations from [100]")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    model = onnx.load(args.model)
    convolutions = read(model)
    moments = measure(model, list(convolutions), photos(args.data, args.photos, side(model)))
    there = load_file(args.like)
    save_file(convert(there, convolutions, moments), args.out)


def read(model):
    """Weight and bias of every convolution by its name."""
    constants = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight, *bias = (constants[name] for name in node.input[1:])
            found[node.output[0]] = (weight, bias[0] if bias else None)
    return found


def in_supernet(node):
    """The name that a convolution's node has in the supernet."""
    scope, name = node.split("/")
    name = name.replace("fusion_", "fusion.").replace("depth_conv_se_fc_", "depth_conv.se.fc.")
    return scope if name == "conv" else f"{scope}.{name}"


def side(model):
    return model.graph.input[0].type.tensor_type.shape.dim[2].dim_value


def photos(data, count, px):
    lines = [line.split()[0] for line in data.read_text().splitlines() if line.strip()]
    order = np.random.default_rng(0).permutation(len(lines))[:count]
    for name in (lines[i] for i in order):
        photo = Image.open(data.parent / name).convert("RGB").resize((px, px), Image.BILINEAR)
        values = (np.asarray(photo, np.float32) / 255 - MEAN) / DEVIATION
        yield np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def measure(model, names, images):
    """Mean and variance of each convolution's channels over the images."""
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    sums = {name: [0, 0.0, 0.0] for name in names}
    for image in images:
        for name, y in zip(names, session.run(names, {session.get_inputs()[0].name: image})):
            y = y[0].reshape(y.shape[1], -1).astype(np.float64)
            entry = sums[name]
            entry[0] += y.shape[1]
            entry[1] += y.sum(1)
            entry[2] += np.square(y).sum(1)
    return {name: (s / n, np.maximum(q / n - np.square(s / n), 0)) for name, (n, s, q) in sums.items()}


def convert(there, convolutions, moments):
    here = dict(there)
    used = set()

    def put(name, value):
        if there[name].shape != value.shape:
            raise SystemExit(f"error: `{name}` is {value.shape} in the model, {there[name].shape} in its space's largest network")
        here[name] = np.ascontiguousarray(value.astype(there[name].dtype))
        used.add(name)

    def norm(prefix, mean, var, bias, factor=1.0):
        put(f"{prefix}.weight", factor * np.sqrt(var + EPS))
        put(f"{prefix}.bias", factor * mean)
        # The convolution of a supernet has no bias.
        put(f"{prefix}.running_mean", mean - bias)
        put(f"{prefix}.running_var", var)

    for node, (weight, bias) in convolutions.items():
        name, (mean, var) = in_supernet(node), moments[node]
        if f"{name}.convbn.conv.weight" in there or f"{name}.conv.weight" in there and ".depthwise" in name:
            unit = f"{name}.convbn" if f"{name}.convbn.conv.weight" in there else name
            kernels = sorted(int(n.rsplit("_", 1)[1]) for n in there if n.startswith(f"{unit}.ks_"))
            put(f"{unit}.conv.weight", weight)
            for kernel in kernels:
                # The mean of the branches is the largest's alone.
                factor = float(len(kernels)) if kernel == kernels[-1] else 0.0
                put(f"{unit}.ks_{kernel}", np.eye(kernel * kernel))
                norm(f"{unit}.bn_dict.ks_{kernel}.bn", mean, var, bias, factor)
        elif name == "backbone.stem":
            put("backbone.stem.stemconv.conv.weight", weight)
            norm("backbone.stem.stemnorm.bn", mean, var, bias)
        elif ".pointwise" in name:
            fusion, unit = name.split(".pointwise")
            put(f"{name}.conv.weight", weight)
            norm(f"{fusion}.bn{unit}.bn", mean, var, bias)
        elif ".branches." in name or name.endswith((".inverted_bottleneck", ".point_linear")):
            prefix = next(p for p in (name, f"{name}.upsample", f"{name}.downsample") if f"{p}.conv.conv.weight" in there)
            put(f"{prefix}.conv.conv.weight", weight)
            norm(f"{prefix}.bn.bn", mean, var, bias)
        else:
            prefix = name + (".conv.conv" if name.startswith("decoder.decoder_dict.") else ".conv")
            put(f"{prefix}.weight", weight)
            if bias is not None:
                put(f"{prefix}.bias", bias)
    for name in there.keys() - used:
        if ".identity_conv." in name:
            here[name] = np.zeros_like(there[name])
    fresh = sorted(n for n in there.keys() - used if ".identity_conv." not in n and not n.endswith("num_batches_tracked"))
    print(f"{len(used)} tensors from the model, {len(fresh)} fresh: {', '.join(fresh[:8])} ...")
    return here


if __name__ == "__main__":
    main()
