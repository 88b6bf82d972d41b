"""The score of a classifier on a user's labelled images, which may lack some of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.linalg import norm

from bloodcells.evaluation.metrics import CONFIDENCE, wilson_interval
from bloodcells.inference.output import Prediction

RESAMPLES = 5000


def score(
    predictions: Sequence[Prediction], classes: Sequence[str], slides: np.ndarray | None = None
) -> dict:
    """Accuracy, balanced accuracy and recall by class, each with its 95 % interval.

    With each image's slide (N,), the first two intervals are over slides. An abstention counts as
    an error. Classes without images are left out of the averages. Also returned: the accuracy of
    always predicting the most frequent class of these images, and the images by truth and answer,
    one row per present class.
    """
    truths = [str(one.truth) for one in predictions]
    answers = [one.label for one in predictions]
    present = [name for name in classes if name in truths]
    columns = [*classes, *sorted(set(answers) - set(classes))]
    confusion = np.zeros((len(present), len(columns)), int)
    for truth, answer in zip(truths, answers, strict=True):
        confusion[present.index(truth), columns.index(answer)] += 1
    counts = confusion.sum(1)
    right = np.array(
        [row[columns.index(name)] for name, row in zip(present, confusion, strict=True)]
    )
    rows = [
        {"class": name, "images": int(n), "recall": interval(int(k), int(n))}
        for name, n, k in zip(present, counts, right, strict=True)
    ]
    averages = {
        "accuracy": interval(int(right.sum()), len(truths)),
        "balanced_accuracy": balanced(right, counts),
    }
    if slides is not None:
        each = np.array(truths) == np.array(answers)
        averages = {
            "accuracy": balanced_over_slides(np.zeros(len(each)), each, slides),
            "balanced_accuracy": balanced_over_slides(np.array(truths), each, slides),
        }
    return {
        "images": len(truths),
        "slides": None if slides is None else int(slides.max()) + 1,
        **averages,
        "majority_class_accuracy": float(counts.max() / len(truths)),
        "per_class": rows,
        "columns": columns,
        "confusion_matrix": confusion.tolist(),
    }


def interval(hits: int, count: int) -> dict[str, float]:
    """A share and its Wilson interval."""
    low, high = wilson_interval(hits, count)
    return {"mean": hits / count, "low": low, "high": high}


def balanced(right: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """The mean recall of the classes, and its 95 % interval.

    The classes' Wilson limits are combined by the square-and-add method (Zou and Donner, 2008), so
    that the interval has a width even where every image is right. `right` may be means over models.
    """
    shares = right / counts
    limits = [wilson_interval(k, n) for k, n in zip(right, counts, strict=True)]
    below, above = abs(np.array(limits).T - shares)
    mean, classes = float(shares.mean()), len(counts)
    low, high = mean - norm(below) / classes, mean + norm(above) / classes
    return {"mean": mean, "low": float(low), "high": float(high)}


def balanced_over_slides(
    labels: np.ndarray, right: np.ndarray, slides: np.ndarray
) -> dict[str, float]:
    """The mean recall of the classes, and its 95 % interval over slides or persons.

    Images of one slide are alike, so whole slides are resampled (the cluster bootstrap of Field and
    Welsh, 2007; percentiles). A class that a resample lacks is left out of its mean. The interval
    is too narrow where slides are few. `right` (N,): whether each answer is right, or the share of
    the models whose answer is, or the difference of two such arrays.
    """
    _, present = np.unique(labels, return_inverse=True)
    images, sums = np.zeros((2, slides.max() + 1, present.max() + 1))
    np.add.at(images, (slides, present), 1)
    np.add.at(sums, (slides, present), right)
    count = len(images)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.vstack([np.ones(count), draws])
    drawn = weights @ images
    recalls = np.divide(weights @ sums, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
    mean, *resampled = np.nanmean(recalls, axis=1)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def report(found: dict) -> str:
    """The score as a table for the console."""
    lines = [
        "accuracy          {mean:.4f} [{low:.4f}, {high:.4f}]".format(**found["accuracy"])
        + f", {found['images']} images; always predicting the most frequent class: "
        f"{found['majority_class_accuracy']:.4f}",
        "balanced accuracy {mean:.4f} [{low:.4f}, {high:.4f}]".format(**found["balanced_accuracy"])
        + f", mean recall of {len(found['per_class'])} classes",
        *([f"both intervals are over {found['slides']} slides"] if found["slides"] else []),
        "recall with its 95 % interval, then images by class (row) and answer (column):",
        f"  {'':20} {'recall':22} " + " ".join(f"{name[:7]:>7}" for name in found["columns"]),
    ]
    for row, counts in zip(found["per_class"], found["confusion_matrix"], strict=True):
        recall = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row["recall"])
        cells = " ".join(f"{count or '.':>7}" for count in counts)
        lines.append(f"  {row['class']:20} {recall:22} {cells}")
    return "\n".join(lines)
