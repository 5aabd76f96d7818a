"""Forward equality at the published sizes, through every form: PyTorch's C3D and VGG-S against `dml import` and dml-model.

Run: python forms.py published FOLDER && python2 forms_python2.py published FOLDER
     python forward.py FOLDER DML LOGITS
DML is the binary `dml`, LOGITS that of dml-model's example `logits`.
"""
import pathlib
import subprocess
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from networks import C3D, VGG_S, formula, parameters

folder, dml, logits = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def end(x, p):
    for name in ["fc6", "fc7"]:
        x = F.relu(F.linear(x, *p[name]))
    return F.linear(x, *p["fc8"])


def c3d(x, p):
    for name, pool in [("conv1", (1, 2, 2)), ("conv2", 2), ("conv3a", None), ("conv3b", 2), ("conv4a", None), ("conv4b", 2),
                       ("conv5a", None), ("conv5b", 2)]:
        x = F.relu(F.conv3d(x, *p[name], padding=1))
        if pool:
            x = F.max_pool3d(x, pool, pool, ceil_mode=True)
    return end(x.flatten(1), p)


def vgg_s(x, p):
    x = F.relu(F.conv2d(x, *p["conv1"], stride=2))
    x = F.max_pool2d(F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0), 3, 3, ceil_mode=True)
    x = F.max_pool2d(F.relu(F.conv2d(x, *p["conv2"])), 2, 2, ceil_mode=True)
    for name in ["conv3", "conv4", "conv5"]:
        x = F.relu(F.conv2d(x, *p[name], padding=1))
    return end(F.max_pool2d(x, 3, 3, ceil_mode=True).flatten(1), p)


for what, network, module, shape, files in [
    ("c3d", C3D, c3d, (1, 3, 16, 112, 112), ["c3d.pickle", "c3d-pretrained.pth", "c3d_model.pkl", "c3d.caffemodel"]),
    ("vgg-s", VGG_S, vgg_s, (2, 3, 224, 224), ["vgg_cnn_s.caffemodel", "vgg_cnn_s-v2.caffemodel", "vgg_cnn_s.pkl"]),
]:
    count = torch.Size(shape).numel()
    x = torch.from_numpy(128 * formula("input", count)).reshape(shape).float()
    save_file({"input": x}, folder / "input.safetensors")
    p = {name: (torch.from_numpy(w), torch.from_numpy(b)) for name, w, b in parameters(network, "published")}
    with torch.no_grad():
        want = module(x, p)
    for file in files:
        imported, output = folder / "imported.safetensors", folder / "output.safetensors"
        subprocess.run([dml, "import", what, folder / file, "-o", imported], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([logits, what, imported, folder / "input.safetensors", output], check=True)
        got = load_file(output)["logits"]
        print(f"{what} {file}: max |logit| {want.abs().max():.4g}, max abs difference {(got - want).abs().max():.3g}", flush=True)
