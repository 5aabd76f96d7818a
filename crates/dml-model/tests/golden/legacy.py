"""Writes legacy.pth, a small checkpoint in the format from before PyTorch 1.6. Run: python legacy.py"""
import collections
import pathlib

import torch

base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
state = collections.OrderedDict(
    {
        "plain.weight": base,
        "channels_last.weight": base.permute(2, 0, 1),  # the same storage, another order
        "part.bias": base[1, 1:, 1:3],  # an offset
        "half": torch.tensor([0.5, -2.0]).half(),
        "brain": torch.tensor([1.5, -3.0]).bfloat16(),
        "double": torch.tensor(0.1, dtype=torch.float64),  # no dimension
        "count": torch.tensor([-1, 2**40]),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
    }
)
state._metadata = collections.OrderedDict({"": {"version": 1}})
torch.save(state, pathlib.Path(__file__).with_name("legacy.pth"), _use_new_zipfile_serialization=False)
