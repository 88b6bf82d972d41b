"""The run folder of predict.py --labelled: scores, predictions, confusion matrix, worst errors."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloodcells.inference.output import ABSTAINED, Prediction
from bloodcells.reporting.figures import training as figures
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment


def save_scores(
    args: Namespace, scores: dict, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """Write the run folder `args.output`. Raises `UserError` if it cannot be written."""
    content = {
        "dataset": {"name": "labelled folders", "paths": list(args.paths)},
        "config": {
            "weights": args.weights.name,
            "views": args.views,
            "frame": args.frame,
            "classes": list(classes),
            "abstain_below": args.abstain_below,
        },
        "code": args.code.describe(),
        "environment": environment(args.device, args.code),
        "scores": scores,
    }
    columns = ("path", "truth", "label", "probability", "unlike_training")
    rows = [columns, *([getattr(one, name) for name in columns] for one in predictions)]

    def fill(folder: Path) -> None:
        run_folder.write_csv(folder / "predictions.csv", rows)
        draw(folder, scores, predictions, classes)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")


def draw(
    folder: Path, scores: dict, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """The confusion matrix, abstentions left out, and the most confident mistakes."""
    counts = np.zeros((len(classes), len(classes)))
    for row, line in zip(scores["per_class"], scores["confusion_matrix"], strict=True):
        counts[classes.index(row["class"])] = line[: len(classes)]
    figures.confusion_matrix(folder / "confusion_matrix.png", counts, classes)
    answered = [one for one in predictions if one.label != ABSTAINED]
    if answered:
        figures.confident_mistakes(
            folder / "confident_mistakes.png",
            np.stack([one.pixels for one in answered]),
            np.array([classes.index(str(one.truth)) for one in answered]),
            np.array([list(one.probabilities.values()) for one in answered]),
            classes,
        )
