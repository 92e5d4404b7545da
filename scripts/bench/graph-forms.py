#!/usr/bin/env python3
"""Measures other forms of an exported network that compute the same: which does a runtime like better?

    pip install onnx onnxruntime numpy
    cargo build --release --workspace
    scripts/bench/graph-forms.py models/best.onnx [--profiler target/release/inas-profiler] [--rounds 7]

Each form is a rewrite of the file. Its output is compared with the file's in ONNX Runtime first. Then all forms are
measured in turn, round after round, by `inas-profiler bench` in both runtimes; the fastest round of each counts (only a
disturbance adds time), and its ratio to the file as exported is printed. `again` is the file itself once more: what its
ratio is off from 1 by is what the machine's noise is worth.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]


class Net:
    """The nodes of a model with its float weights at hand."""

    def __init__(self, model):
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.nodes = []
        for node in graph.node:
            # Weights stored as 16-bit floats: widened here, as runtimes do when they load the file.
            if node.op_type == "Cast" and node.input[0] in self.weights:
                self.weights[node.output[0]] = self.weights[node.input[0]].astype(np.float32)
            else:
                self.nodes.append(node)

    def readers(self, name):
        return [n for n in self.nodes if name in n.input]

    def maker(self, name):
        return next((n for n in self.nodes if name in n.output), None)

    def side(self):
        """Height of each value, from shape inference."""
        done = onnx.shape_inference.infer_shapes(self.write())
        values = [*done.graph.value_info, *done.graph.input, *done.graph.output]
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    def write(self):
        used = {name for node in self.nodes for name in node.input}
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in self.weights.items() if n in used)
        onnx.checker.check_model(self.model)
        return self.model


def again(net):
    """The file as it is."""


def sums(net, op="Sum", factor=False):
    """Adds in a row as one Sum, or with the factor behind them as one Mean."""
    for mul in [n for n in net.nodes if n.op_type == "Mul" and n.input[1] in net.weights and n.name.endswith("mean")]:
        terms, node = [], net.maker(mul.input[0])
        chain = []
        while node is not None and node.op_type == "Add" and "/add" in node.name:
            chain.append(node)
            terms.insert(0, node.input[1])
            first = net.maker(node.input[0])
            if first is None or first.op_type != "Add" or first.name.rsplit("/", 1)[0] != node.name.rsplit("/", 1)[0]:
                terms.insert(0, node.input[0])
                break
            node = first
        if len(chain) < (1 if factor else 2):
            continue
        output = mul.output[0] if factor else mul.input[0]
        new = helper.make_node(op, terms, [output], name=output)
        at = net.nodes.index(chain[0])
        net.nodes[at] = new
        for node in chain[1:] + ([mul] if factor else []):
            net.nodes.remove(node)


def mean(net):
    """Adds and the factor behind them as one Mean."""
    sums(net, "Mean", factor=True)


def folded(net):
    """The factor of a mean inside the weights of the convolution that alone reads it."""
    for mul in [n for n in net.nodes if n.op_type == "Mul" and n.input[1] in net.weights]:
        readers = net.readers(mul.output[0])
        if len(readers) == 1 and readers[0].op_type == "Conv":
            conv, factor = readers[0], net.weights[mul.input[1]]
            net.weights[conv.input[1]] = (net.weights[conv.input[1]] * factor).astype(np.float32)
            conv.input[0] = mul.input[0]
            net.nodes.remove(mul)


def resize_first(net):
    """Branches enlarged before their 1x1 convolution, not after it; where an activation is between, it moves, too."""
    for resize in [n for n in net.nodes if n.op_type == "Resize"]:
        conv = net.maker(resize.input[0])
        if conv.op_type != "Conv" or len(net.readers(conv.output[0])) != 1:
            continue
        small, output = conv.input[0], resize.output[0]
        resize.input[0], conv.input[0] = small, conv.output[0] + "/large"
        resize.output[0], conv.output[0] = conv.input[0], output
        i, j = net.nodes.index(conv), net.nodes.index(resize)
        net.nodes[i], net.nodes[j] = resize, conv


def interpolation(small, large):
    """Matrix of linear interpolation with aligned corners."""
    matrix = np.zeros((large, small), np.float32)
    for y in range(large):
        at = y * (small - 1) / max(large - 1, 1)
        low = min(int(at), max(small - 2, 0))
        matrix[y, low] += 1 - (at - low)
        if small > 1:
            matrix[y, low + 1] += at - low
    return matrix


def matmul_resize(net):
    """Enlarging as two matrix products with constants, rows and columns."""
    shapes = net.side()
    for resize in [n for n in net.nodes if n.op_type == "Resize"]:
        x, y = resize.input[0], resize.output[0]
        (_, _, h, w), (_, _, tall, wide) = shapes[x], shapes[y]
        net.weights[y + "/rows"] = interpolation(h, tall)
        net.weights[y + "/columns"] = np.ascontiguousarray(interpolation(w, wide).T)
        at = net.nodes.index(resize)
        net.nodes[at : at + 1] = [
            helper.make_node("MatMul", [x, y + "/columns"], [y + "/wide"], name=y + "/wide"),
            helper.make_node("MatMul", [y + "/rows", y + "/wide"], [y], name=y + "/tall"),
        ]


def tanh_silu(net):
    """x * sigmoid(x) as h + h * tanh(h), h = x / 2."""
    net.weights["half"] = np.float32(0.5).reshape(())
    for sigmoid in [n for n in net.nodes if n.op_type == "Sigmoid"]:
        x, gate = sigmoid.input[0], sigmoid.output[0]
        readers = net.readers(gate)
        if len(readers) != 1 or readers[0].op_type != "Mul" or x not in readers[0].input:
            continue
        mul, at = readers[0], net.nodes.index(sigmoid)
        net.nodes.remove(mul)
        net.nodes[at : at + 1] = [
            helper.make_node("Mul", [x, "half"], [gate + "/h"], name=gate + "/h"),
            helper.make_node("Tanh", [gate + "/h"], [gate + "/t"], name=gate + "/t"),
            helper.make_node("Mul", [gate + "/h", gate + "/t"], [gate + "/m"], name=gate + "/m"),
            helper.make_node("Add", [gate + "/h", gate + "/m"], [mul.output[0]], name=mul.name),
        ]


FORMS = [again, sums, mean, folded, resize_first, matmul_resize, tanh_silu]


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def bench(profiler, path, runtime):
    command = [profiler, "bench", path, "--json", "--runtime", runtime, "--cold-runs", "0", "--max-runs", "200"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return json.loads(done.stdout)["latency"]["median_us"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--profiler", type=Path, default=ROOT / "target/release/inas-profiler")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    model = onnx.load(args.model)
    exported = Net(model).write()
    shape = [d.dim_value for d in exported.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    wanted = run(exported, x)
    folder = Path(tempfile.mkdtemp())
    files = {"exported": (exported, 0.0)}
    for form in FORMS:
        net = Net(model)
        form(net)
        files[form.__name__.replace("_", "-")] = (net.write(), float(np.abs(run(net.write(), x) - wanted).max()))
    for name, (form, _) in files.items():
        onnx.save(form, folder / f"{name}.onnx")
    found = {(name, runtime): [] for name in files for runtime in ("tract", "ort")}
    for _ in range(args.rounds):
        for name, runtime in found:
            found[name, runtime].append(bench(args.profiler, folder / f"{name}.onnx", runtime))
    print(f"| {args.model.name} | nodes | largest difference | tract ms | ratio | ONNX Runtime ms | ratio |\n|---|---|---|---|---|---|---|")
    for name, (form, difference) in files.items():
        cells = []
        for runtime in ("tract", "ort"):
            us, base = min(found[name, runtime]), min(found["exported", runtime])
            cells.append(f"{us / 1e3:.3f} | {us / base:.3f}")
        print(f"| {name} | {len(form.graph.node)} | {difference:.1e} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
