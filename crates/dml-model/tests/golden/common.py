"""What the golden scripts share: parameters and inputs by a formula of the name and the index, as in src/testing.rs."""
import numpy as np
import torch


def fnv(name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = (h ^ b) * 0x100000001B3 % 2**64
    return h


def formula(name, count):
    m = np.uint64(2**32 - 1)
    x = (np.uint64(fnv(name) % 2**32) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B1)) & m
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & m
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & m
    x = x ^ (x >> np.uint64(16))
    return x.astype(np.float64) / 2**31 - 1


def parameter(name, *shape):
    leaf = name.split(".")[-1]
    if leaf == "running_var":
        offset, scale = 1.0, 0.5
    elif leaf in ("running_mean", "bias"):
        offset, scale = 0.0, 0.1
    elif len(shape) == 1:
        offset, scale = 1.0, 0.2
    else:
        offset, scale = 0.0, (6.0 / np.prod(shape[1:])) ** 0.5
    return torch.from_numpy(offset + scale * formula(name, int(np.prod(shape)))).reshape(shape)


def input(*shape):
    return torch.from_numpy(formula("input", int(np.prod(shape)))).reshape(shape)
