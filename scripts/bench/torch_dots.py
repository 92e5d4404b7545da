"""Search steps in PyTorch: the peer of `dots.py`. Reads what `dots_bench prepare` wrote.

usage: torch_dots.py DIR nchw|channels_last THREADS
"""
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

STEPS = 4
OFFSETS = [0, 2, 5, 9]
PAIRS = [[(a, b) for a in range(n) for b in range(a + 1, n)] for n in range(2, 6)]


class Net:
    """The supernet as plain functions of a dictionary of tensors."""

    def __init__(self, tensors, channels, cells, topology):
        self.w = {}
        self.buffers = {}
        for name, t in tensors.items():
            if name.endswith(("running_mean", "running_var")):
                self.buffers[name] = t
            else:
                self.w[name] = t.requires_grad_()
        self.cells, self.channels, self.topology = cells, channels, topology

    def bn(self, name, x):
        mean, var = self.stats(name, x.shape[1])
        return F.batch_norm(x, mean, var, self.w.get(f"{name}.weight"), self.w.get(f"{name}.bias"), True, 0.1, 1e-5)

    def stats(self, name, c):
        if f"{name}.running_mean" not in self.buffers:
            self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"] = torch.zeros(c), torch.ones(c)
        return self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]

    def relu_conv_bn(self, name, x):
        return self.bn(f"{name}.op.2", F.conv2d(F.relu(x), self.w[f"{name}.op.1.weight"]))

    def reduce(self, name, x):
        x = F.relu(x)
        a = F.conv2d(x, self.w[f"{name}.conv_1.weight"], stride=2)
        b = F.conv2d(x[:, :, 1:, 1:], self.w[f"{name}.conv_2.weight"], stride=2)
        return self.bn(f"{name}.bn", torch.cat([a, b], 1))

    def separable(self, name, x, first, stride, dilation):
        w = self.w[f"{name}.op.{first}.weight"]
        pad = dilation * (w.shape[2] // 2)
        x = F.conv2d(F.relu(x), w, stride=stride, padding=pad, dilation=dilation, groups=x.shape[1])
        return self.bn(f"{name}.op.{first + 2}", F.conv2d(x, self.w[f"{name}.op.{first + 1}.weight"]))

    def op(self, name, column, x, stride):
        name = f"{name}._ops.{column}"
        if column == 1:
            return self.bn(f"{name}.1", F.max_pool2d(x, 3, stride, 1))
        if column == 2:
            return self.bn(f"{name}.1", F.avg_pool2d(x, 3, stride, 1, count_include_pad=False))
        if column == 3:
            return x if stride == 1 else self.reduce(name, x)
        if column in (4, 5):
            return self.separable(name, self.separable(name, x, 1, stride, 1), 5, 1, 1)
        return self.separable(name, x, 1, stride, 2)

    def cell(self, index, s0, s1, reduction, after, factors):
        name = f"cells.{index}"
        first = self.reduce(f"{name}.preprocess0", s0) if after else self.relu_conv_bn(f"{name}.preprocess0", s0)
        nodes = [first, self.relu_conv_bn(f"{name}.preprocess1", s1)]
        for node in range(STEPS):
            total = 0
            for source, x in enumerate(nodes):
                edge = OFFSETS[node] + source
                stride = 2 if reduction and source < 2 else 1
                total = total + sum(w * self.op(f"{name}._ops.{edge}", column, x, stride) for column, w in factors[edge])
            nodes.append(total)
        return torch.cat(nodes[2:], 1)

    def forward(self, x, factors):
        s0 = s1 = self.bn("stem.1", F.conv2d(x, self.w["stem.0.weight"], padding=1))
        after = False
        for index in range(self.cells):
            reduction = index in (self.cells // 3, 2 * self.cells // 3)
            s0, s1 = s1, self.cell(index, s0, s1, reduction, after, factors[reduction])
            after = reduction
        x = F.relu(self.bn("lastact.0", s1)).mean((2, 3))
        return F.linear(x, self.w["classifier.weight"], self.w["classifier.bias"])


def operation_factors(arch):
    """Columns and weights of every edge; zero is not computed."""
    both = [F.softmax(a, -1) for a in arch]
    return [[(c, both[c // 4][edge, c % 4]) for c in range(1, 8)] for edge in range(14)]


def topology_factors(arch, temperature):
    balance, beta = arch
    balance = F.softmax(balance / (temperature * 1e-3), -1)
    gates, at = [], 0
    for node, pairs in enumerate(PAIRS):
        p = F.softmax(beta[at : at + len(pairs)] / temperature, -1)
        at += len(pairs)
        gates += [sum(p[i] for i, pair in enumerate(pairs) if source in pair) for source in range(node + 2)]
    factors = []
    for edge in range(14):
        kept = ([] if edge == 13 else [(3, balance[edge, 0])]) + [(4 + edge % 4, balance[edge, 1])]
        factors.append([(c, gates[edge] * w) for c, w in kept])
    return factors


class Case:
    def __init__(self, tensors, layout, topology):
        shape = tensors["shape"].tolist()
        data = {n: t for n, t in tensors.items() if n.startswith(("train.", "valid."))}
        weights = {n: t.clone() for n, t in tensors.items() if n != "shape" and n not in data and ".pools." not in n}
        self.topology = topology
        if topology:
            used = {f"._ops.{e}._ops.{c}." for e in range(14) for c in (3, 4 + e % 4)}
            weights = {n: t for n, t in weights.items() if n.count("_ops") < 2 or any(u in n for u in used)}
        form = lambda t: t.contiguous(memory_format=layout) if t.dim() == 4 else t
        self.net = Net({n: form(t) for n, t in weights.items()}, shape[0], shape[1], topology)
        self.batch = {k: (form(data[f"{k}.x"].permute(0, 3, 1, 2).contiguous()), data[f"{k}.y"].long()) for k in ("train", "valid")}
        shapes = [(14, 2), (20,)] if topology else [(14, 4), (14, 4)]
        self.arch = [[torch.zeros(s, requires_grad=True) for s in shapes] for _ in range(2)]
        self.flat = [a for kind in self.arch for a in kind]
        self.sgd = torch.optim.SGD(self.net.w.values(), 0.025, 0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam(self.flat, 3e-4, (0.5, 0.999), weight_decay=1e-3)

    def loss(self, which):
        x, y = self.batch[which]
        make = (lambda a: topology_factors(a, 10.0)) if self.topology else operation_factors
        return F.cross_entropy(self.net.forward(x, [make(a) for a in self.arch]), y)

    def weights(self):
        torch.nn.utils.clip_grad_norm_(list(self.net.w.values()), 5.0)
        self.sgd.step()

    def zero(self):
        self.sgd.zero_grad()
        self.adam.zero_grad()

    def step(self):
        self.zero()
        if self.topology:
            loss = self.loss("train")
            loss.backward()
            self.weights()
            self.adam.step()
            return [loss.item()]
        # As the released code does: both backward passes reach weights and architecture.
        first = self.loss("valid")
        first.backward()
        self.adam.step()
        self.zero()
        second = self.loss("train")
        second.backward()
        self.weights()
        return [first.item(), second.item()]


def status(field):
    line = next(l for l in open("/proc/self/status") if l.startswith(field))
    return int(line.split()[1]) / 1024


def main():
    folder, layout, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    tensors = load_file(Path(folder) / "case.safetensors")
    layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    print(json.dumps({"loaded_mb": status("VmRSS")}), flush=True)
    case = None
    for line in sys.stdin:
        what = line.strip()
        if case is None or case.topology != (what == "topology"):
            case = Case(tensors, layout, what == "topology")
        start, cpu = time.perf_counter(), time.process_time()
        values = case.step()
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "values": values}), flush=True)
    print(json.dumps({"peak_mb": status("VmHWM")}), flush=True)


if __name__ == "__main__":
    main()
