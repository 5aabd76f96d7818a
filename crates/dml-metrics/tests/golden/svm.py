"""Golden numbers for the linear SVM, from LIBLINEAR itself.

    python svm.py        # needs numpy and scikit-learn; writes svm.json beside this file

It is the LIBLINEAR within scikit-learn, whose passes can be raised: the program itself stops after 300, where the L1 hinge is
not yet at its optimum.

Features are whole numbers over 64, which both sides read exactly. Training goes far beyond the default tolerance, so that
the one optimum is compared and not where two runs happened to stop.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.svm import LinearSVC

UNIT = 64
rng = np.random.default_rng(20180212)


def dataset(n, dim, classes, spread):
    labels = rng.integers(0, classes, n)
    labels[:classes] = range(classes)
    centres = rng.normal(size=(classes, dim))
    features = np.round(UNIT * (centres[labels] + spread * rng.normal(size=(n, dim)))).astype(int)
    return features, labels


def case(name, n, dim, classes, spread, hinge, c, bias):
    features, labels = dataset(n, dim, classes, spread)
    rows = features / UNIT
    loss = {"l2": "squared_hinge", "l1": "hinge"}[hinge]
    model = LinearSVC(
        loss=loss, dual=True, C=c, tol=1e-11, max_iter=10_000_000, fit_intercept=bias > 0, intercept_scaling=bias or 1.0,
    ).fit(rows, labels)
    # Each row: the weights of a class, and of the bias feature where there is one.
    of_bias = model.intercept_ / bias if bias > 0 else np.zeros(classes)
    weights = [[*w, b] for w, b in zip(model.coef_.tolist(), np.broadcast_to(of_bias, classes).tolist())]
    decisions = model.decision_function(rows)
    return dict(
        name=name, dim=dim, classes=classes, hinge=hinge, c=c, bias=bias,
        features=features.ravel().tolist(), labels=labels.tolist(), weights=weights,
        decisions=decisions.ravel().tolist(), accuracy=100 * float(np.mean(decisions.argmax(1) == labels)),
    )


cases = [
    case("L2 hinge", 60, 7, 4, 0.9, "l2", 1.0, 1.0),
    case("L2 hinge without bias, large C", 50, 5, 3, 1.2, "l2", 20.0, 0.0),
    case("L1 hinge", 60, 7, 4, 0.9, "l1", 1.0, 1.0),
    case("L1 hinge, small C, another bias", 40, 6, 3, 1.5, "l1", 0.1, 2.0),
    case("more features than samples", 12, 30, 3, 0.7, "l2", 1.0, 1.0),
]
text = json.dumps(dict(unit=UNIT, cases=cases))
(Path(__file__).parent / "svm.json").write_text(text + "\n")
