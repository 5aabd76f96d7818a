"""C3D, VGG-S (narrow) and the small roots in PyTorch, f64: writes roots.json. Run: python roots.py"""
import json
import pathlib

import torch
import torch.nn.functional as F

from common import input, parameter


def layer(name, *shape):
    return parameter(f"{name}.weight", *shape), parameter(f"{name}.bias", shape[0])


def end(x, hidden, classes=None):
    x = x.flatten(1)
    fc6 = F.relu(F.linear(x, *layer("fc6", hidden, x.shape[1])))
    fc7 = F.relu(F.linear(fc6, *layer("fc7", hidden, hidden)))
    out = {"fc7": fc7}
    if classes:
        out["fc8"] = F.linear(fc7, *layer("fc8", classes, hidden))
    return {name: value.flatten().tolist() for name, value in out.items()}


def c3d():
    x = input(1, 3, 16, 112, 112)
    for name, width, pool in [
        ("conv1", 4, (1, 2, 2)), ("conv2", 6, 2), ("conv3a", 8, None), ("conv3b", 8, 2),
        ("conv4a", 10, None), ("conv4b", 10, 2), ("conv5a", 12, None), ("conv5b", 12, 2),
    ]:
        x = F.relu(F.conv3d(x, *layer(name, width, x.shape[1], 3, 3, 3), padding=1))
        if pool:
            x = F.max_pool3d(x, pool, pool, ceil_mode=True)
    assert x.shape == (1, 12, 1, 4, 4)
    return end(x, 16, 5)


def vgg_s():
    x = F.relu(F.conv2d(input(1, 3, 224, 224), *layer("conv1", 6, 3, 7, 7), stride=2))
    x = F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
    x = F.max_pool2d(x, 3, 3, ceil_mode=True)
    x = F.relu(F.conv2d(x, *layer("conv2", 8, 6, 5, 5)))
    x = F.max_pool2d(x, 2, 2, ceil_mode=True)
    for name in ["conv3", "conv4", "conv5"]:
        x = F.relu(F.conv2d(x, *layer(name, 8, 8, 3, 3), padding=1))
    x = F.max_pool2d(x, 3, 3, ceil_mode=True)
    assert x.shape == (1, 8, 6, 6)
    return end(x, 12, 5)


def small_clip():
    x = input(2, 3, 9, 18, 18)
    for name, width, pool in [("conv1", 4, (1, 2, 2)), ("conv2", 5, 2), ("conv3", 6, 2)]:
        x = F.max_pool3d(F.relu(F.conv3d(x, *layer(name, width, x.shape[1], 3, 3, 3), padding=1)), pool)
    return end(x, 7)


def small_image():
    x = input(2, 3, 18, 18)
    for name, width in [("conv1", 4), ("conv2", 5), ("conv3", 6)]:
        x = F.max_pool2d(F.relu(F.conv2d(x, *layer(name, width, x.shape[1], 3, 3), padding=1)), 2)
    return end(x, 7)


out = {"c3d": c3d(), "vgg-s": vgg_s(), "small-clip": small_clip(), "small-image": small_image()}
pathlib.Path(__file__).with_name("roots.json").write_text(json.dumps(out, indent=1) + "\n")
print({case: {name: len(v) for name, v in values.items()} for case, values in out.items()})
