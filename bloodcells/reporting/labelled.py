"""The run folder of predict.py --labelled: scores, predictions, confusion matrix, worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloodcells.inference.output import ABSTAINED, Prediction
from bloodcells.reporting.figures import training as figures
from bloodcells.tracking import run_folder

FILES = (  # that predict.py writes
    *("predictions.csv", "confusion_matrix.png", "confident_mistakes.png"),  # --labelled
    *("cells.csv", "field-[0-9][0-9][0-9].png", "field-[0-9][0-9][0-9][0-9].png"),  # --detect
)


def save_scores(output: Path, content: dict, predictions: Sequence[Prediction]) -> None:
    """Write the run folder, with `content` as its metrics.json. Raises `UserError`."""
    classes = content["config"]["classes"]
    columns = ("path", "truth", "label", "probability", "unlike_training", "foreign")
    rows = [columns, *([getattr(one, name) for name in columns] for one in predictions)]

    def fill(folder: Path) -> None:
        run_folder.write_csv(folder / "predictions.csv", rows)
        draw(folder, content["scores"], predictions, classes)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(output, fill, last="metrics.json", stale=FILES)


def draw(
    folder: Path, scores: dict, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """The confusion matrix, abstentions left out, and the most confident mistakes."""
    counts = np.zeros((len(classes), len(classes)))
    for row, line in zip(scores["per_class"], scores["confusion_matrix"], strict=True):
        counts[classes.index(row["class"])] = line[: len(classes)]
    path = folder / "confusion_matrix.png"
    figures.confusion_matrix(path, counts, classes, counted="your images")
    rows = [row for row, one in enumerate(predictions) if one.label != ABSTAINED]
    answered = [predictions[row] for row in rows]
    if answered:
        figures.confident_mistakes(
            folder / "confident_mistakes.png",
            np.stack([one.pixels for one in answered]),
            np.array([classes.index(str(one.truth)) for one in answered]),
            np.array([list(one.probabilities.values()) for one in answered]),
            classes,
            rows=np.array(rows),
            table="predictions.csv, below the header",
        )
