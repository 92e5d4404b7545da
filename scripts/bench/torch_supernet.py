"""The supernet in PyTorch: the peer of `supernet.py`. Reads what `supernet_bench prepare` wrote.

usage: torch_supernet.py DIR nchw|channels_last THREADS
"""
import json
import sys
import time
import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

ACTS = {"silu": F.silu, "relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish}
EVAL_BATCHES = (10, 20)
LR = 1e-4


class Supernet:
    """Slices of one set of shared tensors."""

    def __init__(self, space, tensors, layout):
        self.space, self.act = space, ACTS[space["activation"]]
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        self.buffers = {n: t for n, t in tensors.items() if n.endswith(buffers)}
        self.weights = {
            n: (t.to(memory_format=layout) if t.dim() == 4 else t).requires_grad_()
            for n, t in tensors.items()
            if n not in self.buffers
        }
        self.mode, self.seen = "train", {}

    def conv(self, name, x, out, **options):
        return F.conv2d(x, self.weights[f"{name}.weight"][:out, : x.shape[1]], **options)

    def bn(self, name, x):
        c = x.shape[1]
        weight, bias = self.weights[f"{name}.weight"][:c], self.weights[f"{name}.bias"][:c]
        if self.mode == "observe":
            mean, var = torch.zeros(c), torch.zeros(c)
            y = F.batch_norm(x, mean, var, weight, bias, True, 1.0, 1e-5)
            self.seen.setdefault(name, []).append((mean, var))
            return y
        if self.mode == "eval":
            return F.batch_norm(x, *self.statistics[name], weight, bias, False, 0.0, 1e-5)
        mean, var = self.buffers[f"{name}.running_mean"][:c], self.buffers[f"{name}.running_var"][:c]
        return F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5)

    def smsu(self, name, x, kernels, stride=1):
        c, full = x.shape[1], self.weights[f"{name}.conv.weight"]
        ys = []
        for k in kernels:
            m = (full.shape[2] - k) // 2
            crop = full[:c, :, m : m + k, m : m + k].reshape(c, k * k)
            weight = (crop @ self.weights[f"{name}.ks_{k}"].T).view(c, 1, k, k)
            y = F.conv2d(x, weight, stride=stride, padding=k // 2, groups=c)
            ys.append(self.bn(f"{name}.bn_dict.ks_{k}.bn", y))
        return sum(ys) / len(ys) if len(ys) > 1 else ys[0]

    def squeeze(self, name, x):
        c = x.shape[1]
        mid = max(1, c // self.space["squeeze_excite"]["reduction"])
        s = x.mean((2, 3), keepdim=True)
        s = F.relu(self.conv(f"{name}.fc.reduce.conv", s, mid, bias=self.weights[f"{name}.fc.reduce.conv.bias"][:mid]))
        s = self.conv(f"{name}.fc.expand.conv", s, c, bias=self.weights[f"{name}.fc.expand.conv.bias"][:c])
        return x * F.hardsigmoid(s)

    def mbconv(self, name, x, layer, expand, stride):
        c, out = x.shape[1], layer["channels"]
        y = self.conv(f"{name}.inverted_bottleneck.conv.conv", x, c * expand)
        y = self.act(self.bn(f"{name}.inverted_bottleneck.bn.bn", y))
        y = self.act(self.smsu(f"{name}.depth_conv.convbn", y, layer["kernels"], stride))
        if "squeeze_excite" in self.space:
            y = self.squeeze(f"{name}.depth_conv.se", y)
        y = self.bn(f"{name}.point_linear.bn.bn", self.conv(f"{name}.point_linear.conv.conv", y, out))
        if stride > 1:
            x = F.avg_pool2d(x, stride)
        if c != out:
            x = self.conv(f"{name}.identity_conv.conv", x, out)
        return x + y

    def backbone(self, arch, x):
        stem = self.space["stem"]
        x = self.conv("backbone.stem.stemconv.conv", x, arch["stem"], stride=stem["stride"], padding=stem["kernel"] // 2)
        x = self.act(self.bn("backbone.stem.stemnorm.bn", x))
        levels = []
        for i, (stage, layers) in enumerate(zip(self.space["stage"], arch["stages"]), 1):
            for d, layer in enumerate(layers):
                stride = stage["stride"] if d == 0 else 1
                x = self.mbconv(f"backbone.stage_{i}.{d}", x, layer, stage["expand"], stride)
            if any(level["stage"] == i for level in self.space["level"]):
                levels.append(x)
        return levels

    def fuse(self, part, i, choice, levels, act):
        xs = []
        for j in choice["sources"]:
            if j == i:
                xs.append(levels[i])
                continue
            name = f"{part}.branches.level_{i}.{j}.{'upsample' if j > i else 'downsample'}"
            x, (c, h, w) = levels[j], levels[i].shape[1:]
            if j < i:
                x = F.max_pool2d(x, x.shape[2] // h)
            x = act(self.bn(f"{name}.bn.bn", self.conv(f"{name}.conv.conv", x, c)))
            xs.append(F.interpolate(x, (h, w), mode="bilinear", align_corners=True) if j > i else x)
        return sum(xs) / len(xs) if len(xs) > 1 else xs[0]

    def unit(self, name, n, x, kernels):
        y = self.conv(f"{name}.pointwise{n}.conv", self.smsu(f"{name}.depthwise{n}", x, kernels), x.shape[1])
        return self.bn(f"{name}.bn{n}.bn", y)

    def forward(self, arch, image, heads):
        levels = self.backbone(arch, image)
        transported = []
        for i, choice in enumerate(arch["transport"]):
            x = self.fuse("transport", i, choice, levels, lambda x: x)
            name = f"transport.mainops.level_{i}.fusion"
            y = self.unit(name, 2, self.act(self.unit(name, 1, x, choice["kernels"])), choice["kernels"])
            transported.append(self.act(x + y))
        maps = []
        for i, choice in reversed(list(enumerate(arch["decoder"]))):
            x = self.fuse("decoder", i, choice, transported, self.act)
            name = f"decoder.mainops.level_{i}.fusion"
            transported[i] = self.act(self.unit(name, 1, x, choice["kernels"]))
        for i, x in enumerate(transported[:heads]):
            y = torch.sigmoid(self.conv(f"decoder.decoder_dict.level_{i}.conv.conv", x, 1))
            maps.append(F.interpolate(y, image.shape[2:], mode="bilinear", align_corners=True))
        return maps

    def step(self, optimizer, archs, image, label):
        self.mode = "train"
        optimizer.zero_grad(set_to_none=True)
        losses, teacher = [], None
        for arch in archs:
            maps = self.forward(arch, image, None)
            if teacher is None:
                parts = [F.binary_cross_entropy(m, label) for m in maps]
                teacher = maps[0].detach()
            else:
                parts = [F.mse_loss(m, teacher) for m in maps]
            loss = parts[0] + 0.4 * sum(parts[1:])
            loss.backward()
            losses.append(loss.item())
            del maps, parts, loss
        optimizer.step()
        return losses

    @torch.no_grad()
    def evaluate(self, arch, image):
        self.mode, self.seen = "observe", {}
        for _ in range(EVAL_BATCHES[0]):
            self.forward(arch, image, 1)
        mean = lambda xs: torch.stack(xs).mean(0)
        self.statistics = {n: tuple(map(mean, zip(*seen))) for n, seen in self.seen.items()}
        self.mode = "eval"
        maps = [self.forward(arch, image, 1)[0].mean().item() for _ in range(EVAL_BATCHES[1])]
        return [sum(maps) / len(maps)]


def status_mb(field):
    status = Path("/proc/self/status").read_text().splitlines()
    return next(float(l.split()[1]) / 1024 for l in status if l.startswith(field))


def main():
    folder, layout, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    space = tomllib.loads((folder / "space.toml").read_text())
    archs = json.loads((folder / "archs.json").read_text())
    net = Supernet(space, load_file(folder / "weights.safetensors"), layout)
    data = {n: t.permute(0, 3, 1, 2).contiguous(memory_format=layout) for n, t in load_file(folder / "batch.safetensors").items()}
    optimizer = torch.optim.Adam(net.weights.values(), LR, betas=(0.9, 0.99), fused=True)
    print(json.dumps({"loaded_mb": status_mb("VmRSS")}), flush=True)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        if line.strip() == "step":
            values = net.step(optimizer, archs, data["image"], data["label"])
        else:
            values = net.evaluate(archs[-1], data["eval"])
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "values": values}), flush=True)
    print(json.dumps({"peak_mb": status_mb("VmHWM")}), flush=True)


if __name__ == "__main__":
    main()
