"""What the golden scripts share, for Python 2 and 3: C3D's and VGG-S's parameters, by a formula of name and index."""
import numpy as np

# Layers, in order, with the axes of their kernels; the values of a channel that reach fc6.
C3D = {
    "layers": [("conv1", 3), ("conv2", 3), ("conv3a", 3), ("conv3b", 3), ("conv4a", 3), ("conv4b", 3),
               ("conv5a", 3), ("conv5b", 3), ("fc6", 0), ("fc7", 0), ("fc8", 0)],
    "kernels": {},
    "pooled": 16,
    "narrow": [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 4],
    "published": [64, 128, 256, 256, 512, 512, 512, 512, 4096, 4096, 487],
}
VGG_S = {
    "layers": [("conv1", 2), ("conv2", 2), ("conv3", 2), ("conv4", 2), ("conv5", 2), ("fc6", 0), ("fc7", 0), ("fc8", 0)],
    "kernels": {"conv1": 7, "conv2": 5},
    "pooled": 36,
    "narrow": [2, 2, 2, 2, 2, 3, 3, 4],
    "published": [96, 256, 512, 512, 512, 4096, 4096, 1000],
}


def fnv(name):
    h = 0xCBF29CE484222325
    for b in bytearray(name.encode()):
        h = (h ^ b) * 0x100000001B3 % 2**64
    return h


def formula(name, count):
    """Values in [-1, 1) that look random."""
    m = np.uint64(2**32 - 1)
    x = (np.uint64(fnv(name) % 2**32) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B1)) & m
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & m
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & m
    x = x ^ (x >> np.uint64(16))
    return x.astype(np.float64) / 2**31 - 1


def parameter(name, shape):
    scale = 0.1 if len(shape) == 1 else (6.0 / np.prod(shape[1:])) ** 0.5
    return (scale * formula(name, int(np.prod(shape)))).reshape(shape).astype(np.float32)


def parameters(network, widths):
    """[(layer, weight, bias)] in torch's layout."""
    out, inputs = [], 3
    for (layer, axes), width in zip(network["layers"], network[widths]):
        if layer == "fc6":
            inputs *= network["pooled"]
        shape = (width, inputs) + (network["kernels"].get(layer, 3),) * axes
        out.append((layer, parameter(layer + ".weight", shape), parameter(layer + ".bias", (width,))))
        inputs = width
    return out
