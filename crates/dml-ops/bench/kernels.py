"""PyTorch's side of `cargo xtask bench kernels`: the convolution that each line on the standard input describes.

A line is what the example `kernels` printed about a layer. The answer has the seconds of the forward pass, the
data gradient and the weight and bias gradient, each in the better of the contiguous and the channels-last layout.
"""
import argparse
import json
import sys
import time

import torch

def median(run):
    """As in the example: of at least three runs over at least half a second, after one that is not counted."""
    run()
    begin, seconds = time.perf_counter(), []
    while len(seconds) < 3 or time.perf_counter() - begin < 0.5:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def measure(layer, layout):
    lay = lambda t: t.contiguous(memory_format=layout)
    x, w, b = lay(torch.randn(layer["x"])), lay(torch.randn(layer["w"]) * 0.05), torch.randn(layer["w"][0])
    axes = len(layer["output"])
    stride, padding = [layer["stride"]] * axes, [layer["padding"]] * axes
    conv = [torch.nn.functional.conv2d, torch.nn.functional.conv3d][axes - 2]
    gradient = lay(torch.randn_like(conv(x, w, b, stride, padding)))

    def backward(data):
        wanted = [data, not data, not data]
        torch.ops.aten.convolution_backward(
            gradient, x, w, [len(b)], stride, padding, [1] * axes, False, [0] * axes, 1, wanted
        )

    return {
        "forward": median(lambda: conv(x, w, b, stride, padding)),
        "data_gradient": None if layer["first"] else median(lambda: backward(True)),
        "weight_gradient": median(lambda: backward(False)),
    }


parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, required=True)
torch.set_num_threads(parser.parse_args().threads)
print(json.dumps({"ready": True, "version": torch.__version__}), flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        layer = json.loads(line)
        last = torch.channels_last if len(layer["output"]) == 2 else torch.channels_last_3d
        plain, channels_last = measure(layer, torch.contiguous_format), measure(layer, last)
        better = {key: plain[key] and min(plain[key], channels_last[key]) for key in plain}
        print(json.dumps(better), flush=True)
