"""Writes the public forms of C3D, VGG-S and the means with torch's, numpy's and protobuf's own writers.

Run: python forms.py                    (small files beside this script; needs torch, numpy, protobuf and safetensors)
     python forms.py published FOLDER   (files of the published sizes, some 1.5 GB)
Python 2's pickles: forms_python2.py.
"""
import collections
import pathlib
import pickle
import sys

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from safetensors.torch import save_file

from networks import C3D, VGG_S, parameter, parameters

FIELD = descriptor_pb2.FieldDescriptorProto


def messages(package, definitions):
    """Protobuf classes of {message: [(field, number, type, repeated)]}; a type that is a text names a message."""
    file = descriptor_pb2.FileDescriptorProto(name=package + ".proto", package=package, syntax="proto2")
    for name, fields in definitions.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = FIELD.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                added.type = kind
                if repeated and kind in (FIELD.TYPE_FLOAT, FIELD.TYPE_INT64, FIELD.TYPE_DOUBLE):
                    added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{n}")) for n in definitions}


I32, I64, FLOAT, DOUBLE, TEXT, ENUM = (FIELD.TYPE_INT32, FIELD.TYPE_INT64, FIELD.TYPE_FLOAT, FIELD.TYPE_DOUBLE,
                                       FIELD.TYPE_STRING, FIELD.TYPE_INT32)
V1 = [("bottom", 2, TEXT, True), ("top", 3, TEXT, True), ("name", 4, TEXT, False), ("type", 5, ENUM, False),
      ("blobs", 6, "BlobProto", True), ("blobs_lr", 7, FLOAT, True)]
BVLC = messages("bvlc", {
    "BlobShape": [("dim", 1, I64, True)],
    "BlobProto": [("num", 1, I32, False), ("channels", 2, I32, False), ("height", 3, I32, False),
                  ("width", 4, I32, False), ("data", 5, FLOAT, True), ("diff", 6, FLOAT, True),
                  ("shape", 7, "BlobShape", False), ("double_data", 8, DOUBLE, True)],
    "V1LayerParameter": V1,
    "LayerParameter": [("name", 1, TEXT, False), ("type", 2, TEXT, False), ("bottom", 3, TEXT, True),
                       ("top", 4, TEXT, True), ("blobs", 7, "BlobProto", True)],
    "NetParameter": [("name", 1, TEXT, False), ("layers", 2, "V1LayerParameter", True), ("input", 3, TEXT, True),
                     ("input_dim", 4, I32, True), ("layer", 100, "LayerParameter", True)],
})
FORK = messages("c3d", {
    "BlobProto": [("num", 1, I32, False), ("channels", 2, I32, False), ("length", 3, I32, False),
                  ("height", 4, I32, False), ("width", 5, I32, False), ("data", 6, FLOAT, True),
                  ("diff", 7, FLOAT, True)],
    "LayerParameter": V1,
    "NetParameter": [("name", 1, TEXT, False), ("layers", 2, "LayerParameter", True), ("input", 3, TEXT, True),
                     ("input_dim", 4, I32, True)],
})


def fill(blob, array, axes):
    """Sets a blob whose shape is that many numbers, ones in front."""
    shape = (1,) * (len(axes) - array.ndim) + array.shape
    for axis, size in zip(axes, shape):
        setattr(blob, axis, size)
    blob.data.extend(array.ravel().tolist())
    return blob


FOUR = ["num", "channels", "height", "width"]
FIVE = ["num", "channels", "length", "height", "width"]


def caffe_v1(classes, axes, layers):
    net = classes["NetParameter"](name="net", input=["data"], input_dim=[1, 3, 8, 8])
    for name, weight, bias in layers:
        layer = net.layers.add(name=name, type=4, bottom=["x"], top=["y"], blobs_lr=[1, 2])
        fill(layer.blobs.add(), weight, axes)
        fill(layer.blobs.add(), bias, axes)
        net.layers.add(name="relu_" + name, type=18)
    return net.SerializeToString()


def caffe_v2(layers):
    net = BVLC["NetParameter"](name="net")
    for name, weight, bias in layers:
        layer = net.layer.add(name=name, type="Convolution")
        for array in (weight, bias):
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(array.ravel().tolist())
    return net.SerializeToString()


JFZHANG95 = ["features.0", "features.3", "features.6", "features.8", "features.11", "features.13", "features.16",
             "features.18", "classifier.0", "classifier.3", "classifier.6"]
C3D_CAFFE = ["conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6-1", "fc7-1", "fc8-1"]


def renamed(layers, names):
    return [(name, weight, bias) for name, (_, weight, bias) in zip(names, layers)]


def state(layers):
    items = [(f"{name}.{leaf}", torch.from_numpy(value))
             for name, weight, bias in layers for leaf, value in (("weight", weight), ("bias", bias))]
    return collections.OrderedDict(items)


def views():
    """All that a state dictionary may have in the way of types and views."""
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    out = collections.OrderedDict({
        "plain.weight": base,
        "channels_last.weight": base.permute(2, 0, 1),  # the same storage, another order
        "part.bias": base[1, 1:, 1:3],  # an offset
        "half": torch.tensor([0.5, -2.0]).half(),
        "brain": torch.tensor([1.5, -3.0]).bfloat16(),
        "double": torch.tensor(0.1, dtype=torch.float64),  # no dimension
        "count": torch.tensor([-1, 2**40]),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
    })
    out._metadata = collections.OrderedDict({"": {"version": 1}})
    return out


def write(folder, widths):
    c3d, vgg = parameters(C3D, widths), parameters(VGG_S, widths)
    torch.save(state(c3d), folder / "c3d.pickle", _use_new_zipfile_serialization=False)
    torch.save(state(renamed(c3d, JFZHANG95)), folder / "c3d-pretrained.pth")
    (folder / "c3d.caffemodel").write_bytes(caffe_v1(FORK, FIVE, renamed(c3d, C3D_CAFFE)))
    (folder / "vgg_cnn_s.caffemodel").write_bytes(caffe_v1(BVLC, FOUR, vgg))
    (folder / "vgg_cnn_s-v2.caffemodel").write_bytes(caffe_v2(vgg))


if sys.argv[1:2] == ["published"]:
    write(pathlib.Path(sys.argv[2]), "published")
else:
    here = pathlib.Path(__file__).parent
    write(here, "narrow")
    torch.save(views(), here / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": views(), "epoch": 3, "best": 0.5}, here / "zip.pth")
    # Later pickles than torch's own default, and Python 3's of arrays.
    torch.save(views(), here / "legacy-4.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
    torch.save(views(), here / "zip-4.pth", pickle_protocol=4)
    words = {"a": 2, "dog's": 3, "caf\xe9 \u20ac \U0001f600": 4, 'tab\there "\\" \xe9': 5}
    options = {"dim": 3, "dim_word": 4, "abs": True, "margin": 0.05, "n_words": 6, "encoder": "gru", "load_from": None,
               "big": 2**40, "long": 7, "list": [1, 2.5], "cnn": "10crop"}
    for protocol in (3, 4):
        values = [value for _, weight, bias in parameters(VGG_S, "narrow")
                  for value in (np.ascontiguousarray(weight.T) if weight.ndim == 2 else weight, bias)]
        network = {"values": values, "mean image": parameter("mean", (3, 4, 5))}
        (here / f"vgg_cnn_s-{protocol}.pkl").write_bytes(pickle.dumps(network, protocol))
        order = {"options": options, "worddict": collections.OrderedDict(words)}
        (here / f"order-{protocol}.pkl").write_bytes(pickle.dumps(order, protocol))
    (here / "cube.binaryproto").write_bytes(
        fill(FORK["BlobProto"](), parameter("mean", (3, 2, 4, 5)), FIVE).SerializeToString())
    (here / "image.binaryproto").write_bytes(
        fill(BVLC["BlobProto"](), parameter("mean", (3, 4, 5)), FOUR).SerializeToString())
    np.save(here / "cube.npy", parameter("mean", (3, 2, 4, 5)).astype(np.float64))
    np.save(here / "cube-1.npy", parameter("mean", (1, 3, 2, 4, 5)))
    arrays = {"c": np.arange(6, dtype=np.float32).reshape(2, 3), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
              "i": np.array([-1, 2**40]), "scalar": np.float32(2.5), "empty": np.zeros((0, 3), np.float32)}
    np.savez(here / "arrays.npz", **arrays)
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]), "c": torch.zeros(0, 3).half()},
              here / "plain.safetensors", metadata={"source": "x"})
    np.savez_compressed(here / "arrays-compressed.npz", **arrays)
