"""EfficientNet-Lite0 in PyTorch: writes efficientnet.json. Run: python efficientnet.py <efficientnet-lite0.pth>"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F

from common import input, parameter

# kernel, stride, expansion, inputs, outputs, repeats
STAGES = [(3, 1, 1, 32, 16, 1), (3, 2, 6, 16, 24, 2), (5, 2, 6, 24, 40, 2), (3, 2, 6, 40, 80, 3),
          (5, 1, 6, 80, 112, 3), (5, 2, 6, 112, 192, 4), (3, 1, 6, 192, 320, 1)]


def conv_bn(get, x, conv, bn, outputs, kernel, stride=1, groups=1):
    sides = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    weight = get(f"{conv}.weight", outputs, x.shape[1] // groups, kernel, kernel)
    x = F.conv2d(F.pad(x, sides), weight, stride=stride, groups=groups)
    gamma, beta, mean, variance = (get(f"{bn}.{leaf}", outputs) for leaf in ("weight", "bias", "running_mean", "running_var"))
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=1e-3)


def pooled(get, x):
    x = F.relu6(conv_bn(get, x, "_conv_stem", "_bn0", 32, 3, stride=2))
    block = 0
    for kernel, first, expansion, inputs, outputs, repeats in STAGES:
        for repeat in range(repeats):
            stride, inputs = (first, inputs) if repeat == 0 else (1, outputs)
            name, before = f"_blocks.{block}.", x
            wide = inputs * expansion
            if expansion > 1:
                x = F.relu6(conv_bn(get, x, name + "_expand_conv", name + "_bn0", wide, 1))
            x = F.relu6(conv_bn(get, x, name + "_depthwise_conv", name + "_bn1", wide, kernel, stride, wide))
            x = conv_bn(get, x, name + "_project_conv", name + "_bn2", outputs, 1)
            if stride == 1 and inputs == outputs:
                x = x + before
            block += 1
    return F.relu6(conv_bn(get, x, "_conv_head", "_bn1", 1280, 1)).mean((2, 3))


out = {}
for side in (64, 75, 50):
    out[f"formula-{side}"] = {"pooled": pooled(parameter, input(1, 3, side, side)).flatten().tolist()}
state = torch.load(sys.argv[1])


def published(name, *shape):
    assert state[name].shape == shape, name
    return state[name]


x = pooled(published, input(1, 3, 224, 224).float())
out["published"] = {"pooled-16-values": x[0, :16].tolist(), "sum": [x.sum().item()]}
text = json.dumps(out).replace('{"pooled', '\n {"pooled').replace("}, ", "},\n")
pathlib.Path(__file__).with_name("efficientnet.json").write_text(text + "\n")
print(out["published"], len(text), [v["pooled"][:3] for k, v in out.items() if k != "published"])
