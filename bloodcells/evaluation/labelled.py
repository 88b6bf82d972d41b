"""The score of a classifier on a user's labelled images, which may lack some of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloodcells.evaluation import balanced_accuracy
from bloodcells.evaluation.balanced_accuracy import over
from bloodcells.evaluation.metrics import wilson_interval
from bloodcells.inference.output import Prediction


def score(
    predictions: Sequence[Prediction], classes: Sequence[str], slides: np.ndarray | None = None
) -> dict:
    """Accuracy, balanced accuracy and recall by class, each with its 95 % interval.

    With each image's slide (N,), the intervals are over slides. An abstention counts as an error.
    Classes without images are left out of the averages. Also returned: the accuracy of always
    predicting the most frequent class of these images, and the images by truth and answer, one row
    per present class.
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
        "balanced_accuracy": balanced_accuracy.over_images(right, counts),
    }
    if slides is not None:
        named, each = np.array(truths), np.array(truths) == np.array(answers)
        averages = {
            "accuracy": balanced_accuracy.over_slides(np.zeros(len(each)), each, slides),
            "balanced_accuracy": balanced_accuracy.over_slides(named, each, slides),
        }
        for row in rows:
            mine = named == row["class"]
            row["slides"] = len(np.unique(slides[mine]))
            row["recall"] = balanced_accuracy.recall_over_slides(each[mine], slides[mine])
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


def report(found: dict) -> str:
    """The score as a table for the console."""
    rows = found["per_class"]
    note, where = [], "images"
    if found["slides"]:
        note = [f"intervals are {over(found['slides'], [row['slides'] for row in rows])}"]
        where = "slides (too narrow for few; over images where a class is on one slide)"
    lines = [
        "accuracy          {mean:.4f} [{low:.4f}, {high:.4f}]".format(**found["accuracy"])
        + f", {found['images']} images; always predicting the most frequent class: "
        f"{found['majority_class_accuracy']:.4f}",
        "balanced accuracy {mean:.4f} [{low:.4f}, {high:.4f}]".format(**found["balanced_accuracy"])
        + f", mean recall of {len(rows)} classes",
        *note,
        f"recall with its 95 % interval over {where}; images by class (row) and answer (column):",
        f"  {'':20} {'recall':22} " + " ".join(f"{name[:7]:>7}" for name in found["columns"]),
    ]
    for row, counts in zip(rows, found["confusion_matrix"], strict=True):
        recall = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row["recall"])
        cells = " ".join(f"{count or '.':>7}" for count in counts)
        lines.append(f"  {row['class']:20} {recall:22} {cells}")
    return "\n".join(lines)
