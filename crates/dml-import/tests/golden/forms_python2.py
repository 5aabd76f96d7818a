"""Writes the forms that Python 2 published: pickles of numpy arrays, and an order-embedding. Python 2.7 with numpy.

Run: python2 forms_python2.py                    (small files beside this script)
     python2 forms_python2.py published FOLDER   (files of the published sizes)
"""
import cPickle
import collections
import os
import sys

import numpy as np

from networks import C3D, VGG_S, parameter, parameters


def lasagne(network, widths):
    """Weights and biases in order; fully connected weights are (inputs, outputs)."""
    out = []
    for layer, weight, bias in parameters(network, widths):
        out += [np.ascontiguousarray(weight.T) if weight.ndim == 2 else weight, bias]
    return out


def dump(value, folder, name, protocol):
    with open(os.path.join(folder, name), "wb") as f:
        cPickle.dump(value, f, protocol)


def write(folder, widths):
    dump(lasagne(C3D, widths), folder, "c3d_model.pkl", 2)
    vgg = {"values": lasagne(VGG_S, widths), "mean image": parameter("mean", (3, 4, 5)), "synset words": ["tench", "goldfish"]}
    dump(vgg, folder, "vgg_cnn_s.pkl", 2)


if sys.argv[1:2] == ["published"]:
    write(sys.argv[2], "published")
else:
    here = os.path.dirname(os.path.abspath(__file__))
    write(here, "narrow")
    # Fortran order, a number of numpy's, and a text with every kind of character, in both protocols.
    mixed = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "n": np.float32(0.5), "i": np.int64(-3)}
    words = collections.OrderedDict([("a", 2), ("dog's", 3), (u"caf\xe9 \u20ac \U0001f600", 4), ('tab\there "\\" \xc3\xa9', 5)])
    options = {"dim": 3, "dim_word": 4, "abs": True, "margin": 0.05, "n_words": 6, "encoder": "gru", "load_from": None,
               "big": 2**40, "long": 7L, "list": [1, 2.5], "cnn": "10crop"}
    for protocol in (0, 1, 2):
        dump(mixed, here, "arrays-%d.pkl" % protocol, protocol)
        dump({"options": options, "worddict": words}, here, "order-%d.pkl" % protocol, protocol)
    shapes = [("Wemb", (6, 4)), ("encoder_W", (4, 6)), ("encoder_b", (6,)), ("encoder_U", (3, 6)), ("encoder_Wx", (4, 3)),
              ("encoder_Ux", (3, 3)), ("encoder_bx", (3,)), ("ff_image_W", (5, 3)), ("ff_image_b", (3,))]
    np.savez(os.path.join(here, "order.npz"), **{name: parameter(name, shape) for name, shape in shapes})
