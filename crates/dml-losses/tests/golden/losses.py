"""Golden values and gradients of the losses, by PyTorch in float64.

Writes losses.json beside this file: python losses.py
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)


def normal(n, k, size=1.0):
    return (size * torch.randn(n, k)).float().double()  # representable in f32, so that f32 sees the same input


cases = []


def case(name, loss, prediction, second, function, parameter=None):
    """One case: the inputs, the loss, and its gradient with respect to the prediction; and to the second argument where the
    function takes it."""
    x, y = prediction.clone().requires_grad_(True), second.clone()
    both = function.__code__.co_argcount == 2
    value = function(x, y.requires_grad_(True)) if both else function(x)
    value.backward()
    cases.append({
        "name": name,
        "loss": loss,
        "parameter": parameter,
        "prediction": prediction.tolist(),
        "second": second.tolist(),
        "value": value.item(),
        "gradient": x.grad.tolist(),
        **({"second_gradient": y.grad.tolist()} if both else {}),
    })


def soften(p, temperature):
    power = p ** (1 / temperature)
    return power / power.sum(1, keepdim=True)


def f32_distribution(n, k, size=1.0):
    return torch.softmax(normal(n, k, size), 1).float().double()


for n, k, size in [(5, 7, 1.0), (1, 4, 1.0), (3, 1, 1.0), (4, 6, 40.0)]:
    z = normal(n, k, size)
    labels = torch.randint(0, k, (n,))
    case(f"cls {n}x{k}", "cls", z, labels, lambda x: F.cross_entropy(x, labels))

    p = f32_distribution(n, k)
    case(f"cls_soft {n}x{k}", "cls_soft", z, p, lambda x: F.cross_entropy(x, p))
    for t in [1.0, 2.0, 3.0, 0.5]:
        case(f"distill {n}x{k} T={t}", "distill", z, p, lambda x: F.cross_entropy(x / t, soften(p, t)), t)
    case(f"l1 {n}x{k}", "l1", z, p, lambda x: F.l1_loss(torch.softmax(x, 1), p, reduction="sum") / n)
    case(f"l2 {n}x{k}", "l2", z, p, lambda x: F.mse_loss(torch.softmax(x, 1), p, reduction="sum") / (2 * n))

    flags = (torch.rand(n, k) < 0.4).double()
    bce = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="sum") / n
    case(f"bce {n}x{k}", "bce", z, flags, lambda x: bce(x, flags))
    c = torch.sigmoid(normal(n, k)).float().double()
    for t in [1.0, 2.0]:
        c_t = c ** (1 / t) / (c ** (1 / t) + (1 - c) ** (1 / t))
        case(f"distill_multi_label {n}x{k} T={t}", "distill_multi_label", z, c, lambda x: bce(x / t, c_t), t)

multi = (torch.rand(6, 5) < 0.5).double()
multi[:, 2] = 1.0
z = normal(6, 5)
normalised = multi / multi.sum(1, keepdim=True)
case("cls_soft of multi-hot flags", "cls_multi_hot", z, multi, lambda x: F.cross_entropy(x, normalised))

# Recorded probabilities of exactly 0 and 1.
z = normal(3, 4)
sure = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]])
case("distill of sure responses", "distill", z, sure, lambda x: F.cross_entropy(x / 2, soften(sure, 2)), 2.0)
case("bce of logits 0", "bce", torch.zeros(3, 4), sure, lambda x: F.binary_cross_entropy_with_logits(x, sure, reduction="sum") / 3)

for n, d, size in [(4, 6, 1.0), (1, 3, 1.0), (5, 8, 100.0)]:
    x, y = normal(n, d, size), normal(n, d)
    case(f"emb {n}x{d}", "emb", x, y, lambda x: -F.cosine_similarity(x, y).mean())
    for tau in [0.07, 0.5]:

        def info_nce(x):
            scores = F.normalize(x) @ F.normalize(y).T / tau
            own = torch.arange(n)
            return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2

        case(f"info_nce {n}x{d} tau={tau}", "info_nce", x, y, info_nce, tau)

for n, d, size in [(5, 6, 1.0), (1, 3, 1.0), (2, 4, 1.0), (8, 7, 3.0)]:
    a, b = normal(n, d, size), normal(n, d, size)
    for kind in ["order", "cosine"]:
        for hinges in ["sum", "hardest"]:
            for margin in [0.05, 0.2, 2.0]:

                def ranking(a, b):
                    if kind == "order":
                        scores = -F.relu(a[:, None] - b[None]).square().sum(2)
                    else:
                        scores = F.normalize(a) @ F.normalize(b).T
                    costs = [F.relu(margin - scores.diagonal()[:, None] + s) for s in [scores, scores.T]]
                    costs = [cost.masked_fill(torch.eye(n, dtype=torch.bool), 0.0) for cost in costs]
                    return sum(cost.sum() if hinges == "sum" else cost.max(1)[0].sum() for cost in costs) / n

                case(f"ranking {kind} {hinges} {n}x{d} margin={margin}", f"ranking_{kind}_{hinges}", a, b, ranking, margin)

assert all(math.isfinite(c["value"]) for c in cases)
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
