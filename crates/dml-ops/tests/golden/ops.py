"""Writes ops.json: results of torch for the tests in ../ops/golden.rs. Run: python ops.py

Inputs are formulas, so that only results need storing; see `wave`. Gradients are those of sum(result * wave(0.3)).
"""

import json
import os

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def wave(shape, speed):
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count) * speed + 1.0).reshape(shape)


def numbers(x):
    return [float(f"{v:.12g}") for v in x.detach().flatten().tolist()]


def run(function, inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    result = function(*inputs)
    (result * wave(result.shape, 0.3)).sum().backward()
    return {
        "shape": list(result.shape),
        "result": numbers(result),
        "gradients": [numbers(x.grad) for x in inputs],
    }


golden = {"conv3d": [], "conv2d": [], "depthwise": [], "linear": [], "pool": [], "lrn": [], "adam": []}

for x, w, stride, padding in [
    ((2, 3, 3, 5, 4), (2, 3, 3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ((1, 2, 5, 6, 7), (3, 2, 3, 3, 2), (2, 1, 3), (0, 2, 1)),
    ((1, 2, 4, 4, 4), (2, 2, 1, 2, 4), (1, 2, 1), (0, 0, 2)),
]:
    inputs = [wave(x, 0.7), wave(w, 1.1), wave(w[:1], 2.0)]
    case = run(lambda x, w, b: F.conv3d(x, w, b, stride, padding), inputs)
    golden["conv3d"].append({"x": x, "w": w, "stride": stride, "padding": padding, **case})

# Padding is (top, bottom, left, right).
for x, w, stride, padding, groups in [
    ((1, 3, 8, 7), (4, 3, 3, 3), (2, 2), (0, 1, 1, 1), 1),
    ((2, 4, 6, 6), (4, 1, 5, 3), (2, 1), (2, 1, 0, 2), 4),
]:
    top, bottom, left, right = padding
    inputs = [wave(x, 0.7), wave(w, 1.1), wave(w[:1], 2.0)]
    case = run(lambda x, w, b: F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, stride, 0, 1, groups), inputs)
    golden["conv2d"].append({"x": x, "w": w, "stride": stride, "padding": padding, "groups": groups, **case})

# On (n, h, w, c), followed by relu6. Padding is (top, bottom, left, right).
for x, kernel, stride, padding in [
    ((2, 6, 5, 3), (3, 3), (1, 1), (1, 1, 1, 1)),
    ((1, 7, 8, 5), (5, 5), (2, 2), (1, 2, 2, 2)),
]:
    top, bottom, left, right = padding
    channels = x[3]

    def depthwise(x, w, b):
        x = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        return F.relu6(F.conv2d(x, w, b, stride, 0, 1, channels)).permute(0, 2, 3, 1)

    w = (channels, 1, *kernel)
    case = run(depthwise, [6 * wave(x, 0.7), wave(w, 1.1), wave((channels,), 2.0)])
    golden["depthwise"].append({"x": x, "w": w, "stride": stride, "padding": padding, **case})

# Followed by relu.
for x, outputs in [((1, 7), 5), ((3, 40), 19), ((18, 33), 4)]:
    inputs = [wave(x, 0.7), wave((outputs, x[1]), 1.1), wave((outputs,), 2.0)]
    case = run(lambda x, w, b: F.relu(F.linear(x, w, b)), inputs)
    golden["linear"].append({"x": x, "outputs": outputs, **case})

# C3D's pool5, VGG-S's pool1 (cut to a third), pool2 and pool5, and padded ones; 2-D with a time of 1.
for x, kernel, stride, padding, ceil in [
    ((1, 2, 2, 7, 7), (2, 2, 2), (2, 2, 2), (0, 0, 0), True),
    ((1, 1, 1, 37, 37), (1, 3, 3), (1, 3, 3), (0, 0, 0), True),
    ((1, 1, 1, 33, 33), (1, 2, 2), (1, 2, 2), (0, 0, 0), True),
    ((1, 2, 1, 17, 17), (1, 3, 3), (1, 3, 3), (0, 0, 0), True),
    ((1, 2, 4, 7, 8), (2, 2, 3), (2, 2, 2), (0, 1, 1), True),
    ((1, 2, 5, 7, 8), (3, 2, 3), (2, 3, 1), (1, 1, 0), False),
    ((1, 1, 3, 5, 5), (2, 2, 2), (3, 3, 3), (1, 1, 1), True),
]:
    case = run(lambda x: F.max_pool3d(x, kernel, stride, padding, ceil_mode=ceil), [wave(x, 0.7)])
    golden["pool"].append({"x": x, "kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil, **case})

for x, size, alpha in [((2, 7, 3, 3), 5, 5e-4), ((1, 4, 2, 3), 5, 0.5), ((1, 6, 2, 2), 4, 0.5)]:
    x_scaled = 30 * wave(x, 0.7) if alpha < 0.1 else wave(x, 0.7)
    norm = torch.nn.LocalResponseNorm(size, alpha, 0.75, 2.0)
    golden["lrn"].append({"x": x, "size": size, "alpha": alpha, **run(norm, [x_scaled])})

for dtype in [torch.float32, torch.float64]:
    p = wave((3, 4), 0.7).to(dtype).requires_grad_()
    adam = torch.optim.Adam([p], lr=0.01, betas=(0.8, 0.95), eps=1e-6)
    steps = []
    for step in range(6):
        p.grad = wave((3, 4), 0.9 + step).to(dtype)
        adam.step()
        steps.append(numbers(p))
    state = adam.state[p]
    moments = {"m": numbers(state["exp_avg"]), "v": numbers(state["exp_avg_sq"])}
    golden["adam"].append({"dtype": str(dtype).split(".")[1], "steps": steps, **moments})

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ops.json"), "w") as file:
    json.dump(golden, file, separators=(",", ":"))
    file.write("\n")
