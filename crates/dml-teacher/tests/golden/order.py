"""The order-embedding of ../../../dml-import/tests/golden/order.npz by torch's GRU: writes order.json. Run: python order.py"""
import json
import pathlib

import numpy as np
import torch

here = pathlib.Path(__file__).parent
arrays = np.load(here / "../../../dml-import/tests/golden/order.npz")
p = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
dim = p["encoder_Ux"].shape[0]
gru = torch.nn.GRU(p["Wemb"].shape[1], dim, batch_first=True)
with torch.no_grad():
    # torch's order is reset, update, new, as here; its weights are (outputs, inputs), and it has two biases.
    gru.weight_ih_l0.copy_(torch.cat([p["encoder_W"], p["encoder_Wx"]], 1).T)
    gru.weight_hh_l0.copy_(torch.cat([p["encoder_U"], p["encoder_Ux"]], 1).T)
    gru.bias_ih_l0.copy_(torch.cat([p["encoder_b"], p["encoder_bx"]]))
    gru.bias_hh_l0.zero_()

# The published vocabulary of that model has the first of these only.
words = {"a": 2, "dogs": 3, "caf\xe9": 4, "cat": 5}
sentences = ["a", "A dogs a.", "a caf\xe9, a cat!", "unknown words only", "a a a a a"]


def steps(sentence):
    text = "".join(c for c in sentence.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return [words.get(word, 1) for word in text.split()] + [0]


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


with torch.no_grad():
    last = torch.cat([gru(p["Wemb"][torch.tensor([steps(s)])])[0][:, -1] for s in sentences])
    features = torch.arange(10.0).reshape(2, 5) - 4
    images = unit(features @ p["ff_image_W"] + p["ff_image_b"])
out = {"sentences": sentences, "signed": unit(last).tolist(), "images": images.abs().tolist()}
(here / "order.json").write_text(json.dumps(out, indent=1) + "\n")
