"""Golden numbers for dml-metrics, from scikit-learn and from NumPy written after the measures' definitions.

    python metrics.py        # needs numpy and scikit-learn; writes metrics.json beside this file

Scores are stored as whole numbers over 64, which both sides read exactly; their coarseness makes ties.
"""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_curve

UNIT = 64
rng = np.random.default_rng(20180212)


def voc_all_points(precision, recall):
    """VOCap.m of VOC 2010 to 2012, on a curve in order of rising recall."""
    mrec = np.concatenate([[0.0], recall, [1.0]])
    mpre = np.concatenate([[0.0], precision, [0.0]])
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    i = np.flatnonzero(mrec[1:] != mrec[:-1]) + 1
    return 100 * np.sum((mrec[i] - mrec[i - 1]) * mpre[i])


def voc_eleven_points(precision, recall, positives):
    """VOC 2007: the mean over recalls 0, .1, ... 1 of the highest precision at that recall or more."""
    exact = [Fraction(round(r * positives), positives) for r in recall]
    highest = [max((p for p, r in zip(precision, exact) if r >= Fraction(t, 10)), default=0.0) for t in range(11)]
    return 100 * np.mean(highest)


def average_precisions(scores, flags):
    kept = flags != 0
    positives = int(np.sum(flags == 1))
    if positives == 0:
        return None, None
    precision, recall, _ = precision_recall_curve(flags[kept] == 1, scores[kept])
    # scikit-learn goes from high recall to low and ends with an artificial point at recall 0.
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    return voc_all_points(precision, recall), voc_eleven_points(precision, recall, positives)


def multi_label(name, n, k, levels, rates, without=()):
    scores = rng.integers(0, levels, (n, k))
    flags = np.where(rng.random((n, k)) < rates[0], 1, np.where(rng.random((n, k)) < rates[1], 0, -1))
    for c in without:
        flags[flags[:, c] == 1, c] = -1
    both = [average_precisions(scores[:, c], flags[:, c]) for c in range(k)]
    all_points, eleven = [b[0] for b in both], [b[1] for b in both]
    hits, counted = 0, 0
    for s, f in zip(scores, flags):
        worst = f[s == s.max()].min()
        hits, counted = hits + (worst == 1), counted + (worst != 0)
    return dict(
        name=name, k=k, scores=scores.ravel().tolist(), flags=flags.ravel().tolist(),
        all_points=all_points, all_points_mean=np.mean([x for x in all_points if x is not None]),
        eleven_point=eleven, eleven_point_mean=np.mean([x for x in eleven if x is not None]),
        top1_precision=100 * hits / counted,
    )


def single_label(n, k):
    # A permutation in each row: no ties, so that scikit-learn's accuracy of the argmax has one reading.
    scores = np.stack([rng.permutation(k) for _ in range(n)])
    labels = np.where(rng.random(n) < 0.4, scores.argmax(1), rng.integers(0, k, n))
    return dict(k=k, scores=scores.ravel().tolist(), labels=labels.tolist(),
                hit_at_1=100 * accuracy_score(labels, scores.argmax(1)))


def videos(count, k):
    groups = rng.permutation(np.repeat(rng.choice(1000, count, replace=False), rng.integers(1, 5, count)))
    of = {g: int(rng.integers(k)) for g in np.unique(groups)}
    labels = np.array([of[g] for g in groups])
    parts = np.stack([rng.multinomial(UNIT, np.full(k, 1 / k) * 0.7 + 0.3 * np.eye(k)[y]) for y in labels])
    hits = []
    for g, y in of.items():
        mean = parts[groups == g].mean(0)
        hits.append(all(mean[y] > mean[c] for c in range(k) if c != y))
    return dict(k=k, probabilities=parts.ravel().tolist(), labels=labels.tolist(), groups=groups.tolist(),
                video_accuracy=100 * np.mean(hits))


def rank(scores, positive):
    """1-based place of the first positive in descending order, equal negatives first."""
    order = np.lexsort((positive, -scores))
    return int(np.flatnonzero(positive[order])[0]) + 1


def summary(ranks, median):
    zero_based = np.array(ranks) - 1
    med = np.median(zero_based)
    return dict(
        **{f"r{k}": 100 * np.mean(zero_based < k) for k in (1, 5, 10)},
        median_rank=(np.floor(med) if median == "floor" else med) + 1,
        mean_rank=np.mean(zero_based) + 1, queries=len(ranks),
    )


def both_ranks(similarity, owner):
    items, texts = similarity.shape
    return ([rank(similarity[i], owner == i) for i in range(items)],
            [rank(similarity[:, j], np.arange(items) == owner[j]) for j in range(texts)])


def retrieval(name, items, captions, levels, size, median):
    owner = rng.permutation(np.concatenate([np.arange(items), rng.integers(0, items, items * (captions - 1))]))
    similarity = rng.integers(0, levels, (items, len(owner))) + (owner == np.arange(items)[:, None]) * (levels // 3)
    to_text, to_item = both_ranks(similarity, owner)
    first = [int(np.flatnonzero(owner == i)[0]) for i in range(items)]
    pools = [both_ranks(similarity[a:a + size][:, first[a:a + size]], np.arange(size))
             for a in range(0, items - size + 1, size)]
    pooled = []
    for direction in (0, 1):
        each = [summary(p[direction], median) for p in pools]
        pooled.append({key: np.sum([e[key] for e in each]) if key == "queries" else np.mean([e[key] for e in each])
                       for key in each[0]})
    return dict(
        name=name, items=items, owner=owner.tolist(), similarity=similarity.ravel().tolist(),
        item_ranks=to_text, text_ranks=to_item,
        standard=dict(item_to_text=summary(to_text, "floor"), text_to_item=summary(to_item, "floor")),
        pools=dict(size=size, median=median), pooled=dict(item_to_text=pooled[0], text_to_item=pooled[1]),
    )


golden = dict(
    unit=UNIT,
    multi_label=[
        multi_label("no ties to speak of", 60, 4, 100_000, (0.2, 0.0)),
        multi_label("many ties, difficult flags", 80, 5, 9, (0.25, 0.15)),
        multi_label("a class without positives", 30, 4, 12, (0.3, 0.1), without=(2,)),
        multi_label("ten positives or so, where recalls meet the eleven points", 20, 6, 1000, (0.5, 0.0)),
    ],
    single_label=single_label(90, 7),
    videos=videos(40, 5),
    retrieval=[
        retrieval("one caption", 21, 1, 10_000, 16, "floor"),
        retrieval("several captions, ties, partial pool", 38, 3, 30, 16, "plain"),
        retrieval("odd pools", 23, 2, 12, 7, "floor"),
    ],
)


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, default=plain, separators=(",", ":")) + "\n")
print(path, path.stat().st_size, "bytes")
