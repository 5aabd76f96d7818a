"""PyTorch's side of `cargo xtask bench step`: the networks of this crate, one training step of each.

Builds the model, warms up, prints a line, then makes one run for every line on its standard input
and answers with one JSON line: seconds a step, steps in the run, and the process's peak memory in MiB.

On a GPU cuDNN times its algorithms while it warms up, parameters and data are there before the first step, the peak is that
of the GPU's memory, and the loss is looked at once a step, after the step is on its way. The pass "lwf" is the paper's step:
a caption task is learnt, a class task preserved by distillation from a frozen copy that answers in the same step.
"""
import argparse
import copy
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class End(nn.Module):
    """fc6, fc7 and a head of classes."""

    def __init__(self, inputs, hidden, classes):
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, classes)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(F.relu(self.fc6(x.flatten(1))))
        return self.head(self.drop(F.relu(self.fc7(x))))


def c3d():
    layers, channels = [], 3
    # Caffe's pools round up: pool5 gets one row and one column more on the right and at the bottom only.
    for width, pool in [(64, (1, 2, 2)), (128, 2), (256, None), (256, 2), (512, None), (512, 2), (512, None), (512, 2)]:
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        if pool:
            layers.append(nn.MaxPool3d(pool, pool, ceil_mode=True))
        channels = width
    return nn.Sequential(*layers, End(8192, 4096, 101)), (3, 16, 112, 112)


def vgg_s():
    pool = lambda size: nn.MaxPool2d(size, size, ceil_mode=True)
    relu = lambda: nn.ReLU(inplace=True)
    return nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2), relu(), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), pool(3),
        nn.Conv2d(96, 256, 5), relu(), pool(2),
        nn.Conv2d(256, 512, 3, padding=1), relu(),
        nn.Conv2d(512, 512, 3, padding=1), relu(),
        nn.Conv2d(512, 512, 3, padding=1), relu(), pool(3),
        End(512 * 36, 4096, 20),
    ), (3, 224, 224)


def small():
    layers, channels = [], 3
    for width, pool in [(8, (1, 2, 2)), (16, 2), (32, 2)]:
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool3d(pool)]
        channels = width
    return nn.Sequential(*layers, End(32 * 2 * 3 * 3, 128, 20)), (3, 8, 24, 24)


class ConvBn(nn.Module):
    """Convolution padded as TensorFlow's SAME, batch normalisation with the stored statistics, ReLU6."""

    def __init__(self, size, inputs, outputs, kernel, stride=1, groups=1, act=True):
        super().__init__()
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        self.odd = (total // 2, total - total // 2) * 2 if total % 2 else None
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, 0 if self.odd else total // 2, groups=groups, bias=False)
        self.bn, self.act = nn.BatchNorm2d(outputs, eps=1e-3), act

    def fold(self):
        self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()

    def forward(self, x):
        x = self.bn(self.conv(F.pad(x, self.odd) if self.odd else x))
        return F.relu6(x, inplace=True) if self.act else x


class Block(nn.Module):
    def __init__(self, size, inputs, outputs, expansion, kernel, stride):
        super().__init__()
        wide = inputs * expansion
        expand = [ConvBn(size, inputs, wide, 1)] if expansion > 1 else []
        depthwise = ConvBn(size, wide, wide, kernel, stride, wide)
        self.body = nn.Sequential(*expand, depthwise, ConvBn(-(-size // stride), wide, outputs, 1, act=False))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


# kernel, stride of the first block, expansion, outputs, blocks
STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]


def efficientnet_lite0():
    layers, channels, size = [ConvBn(224, 3, 32, 3, 2)], 32, 112
    for kernel, first, expansion, outputs, blocks in STAGES:
        for block in range(blocks):
            stride = 1 if block else first
            layers.append(Block(size, channels, outputs, expansion, kernel, stride))
            channels, size = outputs, -(-size // stride)
    layers += [ConvBn(size, channels, 1280, 1), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, End(1280, 1024, 20)), (3, 224, 224)


EMBEDDING, TEMPERATURE = 384, 2.0
MODELS = {"c3d": c3d, "vgg-s": vgg_s, "efficientnet-lite0": efficientnet_lite0, "small": small}


def peak_mib(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        with open("/proc/self/status") as status:
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def prepare(args):
    """The function that is timed: a step, or a forward pass in evaluation."""
    torch.manual_seed(0)
    model, shape = MODELS[args.model]()
    device, kind = args.device, getattr(args, "pass")
    caption = None
    if kind == "lwf":
        caption = nn.Linear(model[-1].head.in_features, EMBEDDING).to(device)
    model, x = model.to(device), torch.randn(args.batch, *shape, device=device)
    labels = torch.randint(0, model[-1].head.out_features, (args.batch,), device=device)
    targets = torch.randn(args.batch, EMBEDDING, device=device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.dtype == "tf32"
    if args.layout == "channels_last":
        layout = torch.channels_last_3d if len(shape) == 4 else torch.channels_last
        model, x = model.to(memory_format=layout), x.contiguous(memory_format=layout)
    forward = kind == "forward"
    for module in model.modules():
        # Dropout drops in a step; the statistics of batch normalisation are frozen, as in this project.
        module.training = not forward and not isinstance(module, nn.BatchNorm2d)
    if args.fold:
        for module in model.modules():
            if isinstance(module, ConvBn):
                module.fold()
    frozen = copy.deepcopy(model).eval().requires_grad_(False) if caption is not None else None
    run = torch.compile(model) if args.compile else model
    bf16 = torch.autocast(device, dtype=torch.bfloat16, enabled=args.dtype == "bf16")

    def infer():
        with torch.inference_mode(), bf16:
            run(x)

    if forward:
        return infer
    parameters = [*model.parameters(), *(caption.parameters() if caption is not None else [])]
    adam = torch.optim.Adam(parameters, lr=1e-6, **{args.adam: True})
    if caption is not None:
        # The features that the heads stand on: what goes into the last layer.
        kept = {}
        model[-1].head.register_forward_pre_hook(lambda module, inputs: kept.update(features=inputs[0]))

    def objective():
        logits = run(x).float()
        if caption is None:
            return F.cross_entropy(logits, labels)
        learnt = 1 - F.cosine_similarity(caption(kept["features"]).float(), targets).mean()
        with torch.no_grad():
            recorded = F.softmax(frozen(x).float() / TEMPERATURE, 1)
        return learnt - (recorded * F.log_softmax(logits / TEMPERATURE, 1)).sum(1).mean()

    def step():
        adam.zero_grad(set_to_none=True)
        with bf16:
            loss = objective()
        loss.backward()
        adam.step()
        if not math.isfinite(loss.item()):
            raise SystemExit(f"the loss is {loss.item()}")

    return step


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pass", choices=["step", "lwf", "forward"], default="step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["f32", "tf32", "bf16"], default="f32")
    parser.add_argument("--layout", choices=["contiguous", "channels_last"], default="channels_last")
    parser.add_argument("--adam", choices=["fused", "foreach"], default="fused")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--fold", action="store_true", help="fold batch normalisation into the convolutions")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = prepare(args)

    def timed(steps):
        start = time.perf_counter()
        for _ in range(steps):
            run()
        if args.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps

    timed(1)
    second = timed(1)
    # A run takes half a second at least: short steps are measured several at a time.
    steps = max(1, math.ceil(0.5 / second))
    warm = second if steps == 1 else timed(steps)
    say = lambda answer: print(json.dumps(answer), flush=True)
    say({"ready": True, "warm": warm, "version": torch.__version__})
    for _ in sys.stdin:
        say({"seconds": timed(steps), "steps": steps, "peak_mib": peak_mib(args.device)})


main()
