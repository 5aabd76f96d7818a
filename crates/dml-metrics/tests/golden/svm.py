"""Golden numbers for the linear SVM, from LIBLINEAR itself.

    python svm.py        # needs numpy and liblinear-official; writes svm.json beside this file

Features are whole numbers over 64, which both sides read exactly. Training goes far beyond the default tolerance, so that
the one optimum is compared and not where two runs happened to stop.
"""

import json
from pathlib import Path

import numpy as np
from liblinear.liblinearutil import predict, train

UNIT = 64
rng = np.random.default_rng(20180212)


def dataset(n, dim, classes, spread):
    labels = rng.integers(0, classes, n)
    labels[:classes] = range(classes)
    centres = rng.normal(size=(classes, dim))
    features = np.round(UNIT * (centres[labels] + spread * rng.normal(size=(n, dim)))).astype(int)
    return features, labels


def case(name, n, dim, classes, spread, solver, c, bias):
    features, labels = dataset(n, dim, classes, spread)
    rows = [[float(x) / UNIT for x in row] for row in features]
    model = train(labels.tolist(), rows, f"-s {solver} -c {c} -B {bias if bias > 0 else -1} -e 1e-9 -q")
    _, _, decisions = predict(labels.tolist(), rows, model, "-q")
    order = np.argsort(model.get_labels())
    # Each row: the weights of a class, and of the bias feature where there is one.
    weights = [list(model.get_decfun(int(at))[0]) + [model.get_decfun(int(at))[1] / bias if bias > 0 else 0.0] for at in order]
    decisions = np.array(decisions)[:, order]
    return dict(
        name=name, dim=dim, classes=classes, hinge={1: "l2", 3: "l1"}[solver], c=c, bias=bias,
        features=features.ravel().tolist(), labels=labels.tolist(), weights=weights,
        decisions=decisions.ravel().tolist(), accuracy=100 * float(np.mean(decisions.argmax(1) == labels)),
    )


cases = [
    case("L2 hinge", 60, 7, 4, 0.9, 1, 1.0, 1.0),
    case("L2 hinge without bias, large C", 50, 5, 3, 1.2, 1, 20.0, 0.0),
    case("L1 hinge", 60, 7, 4, 0.9, 3, 1.0, 1.0),
    case("L1 hinge, small C, another bias", 40, 6, 3, 1.5, 3, 0.1, 2.0),
    case("more features than samples", 12, 30, 3, 0.7, 1, 1.0, 1.0),
]
text = json.dumps(dict(unit=UNIT, cases=cases))
(Path(__file__).parent / "svm.json").write_text(text + "\n")
