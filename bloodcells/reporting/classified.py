"""The run folder of predict.py: of --labelled, the scores and errors; of --detect, the cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PIL import ImageDraw, ImageFont

from bloodcells.data.framing import Square
from bloodcells.data.preparation import BadImageError
from bloodcells.data.user_images import open_image
from bloodcells.errors import UserError
from bloodcells.inference.output import ABSTAINED, Prediction
from bloodcells.reporting.figures import training as figures
from bloodcells.tracking import run_folder

INK = (220, 20, 60)
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
        draw_scores(folder, content["scores"], predictions, classes)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(output, fill, last="metrics.json", stale=FILES)


def draw_scores(
    folder: Path, scores: dict, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """The confusion matrix, abstentions left out, and the most confident mistakes."""
    counts = np.zeros((len(classes), len(classes)))
    for row, line in zip(scores["per_class"], scores["confusion_matrix"], strict=True):
        counts[classes.index(row["class"])] = line[: len(classes)]
    path = folder / "confusion_matrix.png"
    unanswered = scores["images"] - int(counts.sum())
    counted = "your images" + (f" that were answered; {unanswered} were not" if unanswered else "")
    figures.confusion_matrix(path, counts, classes, counted=counted)
    rows = [row for row, one in enumerate(predictions) if one.label != ABSTAINED]
    answered = [predictions[row] for row in rows]
    if answered:
        figures.confident_mistakes(
            folder / "confident_mistakes.png",
            np.stack([one.pixels for one in answered]),
            np.array([classes.index(str(one.truth)) for one in answered]),
            np.array([list(one.probabilities.values()) for one in answered]),
            classes,
            None,
            rows=np.array(rows),
            table="predictions.csv, from 0, below the header",
        )


def save_fields(output: Path, content: dict, predictions: Sequence[Prediction]) -> None:
    """Write the run folder, with `content` as its metrics.json. Raises `UserError`."""
    files = dict.fromkeys(one.file for one in predictions)
    pictures = {file: f"field-{number:03}.png" for number, file in enumerate(files, start=1)}
    columns = ("path", "label", "probability", "unlike_training", "x", "y", "side", "picture")
    rows: list[Sequence] = [columns]
    for one in predictions:
        square = cast(Square, one.square)  # which every cell of a field has
        answer = (one.path, one.label, one.probability, one.unlike_training)
        rows.append([*answer, square.x, square.y, square.side, pictures[one.file]])

    def fill(folder: Path) -> None:
        for file, cells in itertools.groupby(predictions, key=lambda one: one.file):
            draw_field(folder / pictures[file], file, list(cells))
        run_folder.write_csv(folder / "cells.csv", rows)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(output, fill, last="metrics.json", stale=FILES)


def draw_field(path: Path, file: str, cells: Sequence[Prediction]) -> None:
    """The field with a box at each cell, its number as in the table, and its class."""
    try:
        picture, _ = open_image(file)
    except BadImageError as error:
        raise UserError(f"{file}: cannot be read any more: {error}") from error
    pen = ImageDraw.Draw(picture)
    size = max(12, max(picture.size) // 60)
    font = ImageFont.load_default(size)
    for one in cells:
        square = cast(Square, one.square)
        half = square.side / 2
        left, top = square.x - half, square.y - half
        box = (left, top, square.x + half, square.y + half)
        number = one.path.rpartition("#")[2]
        pen.rectangle(box, outline=INK, width=max(2, size // 8))
        pen.text((left, max(0, top - 1.2 * size)), f"{number} {one.label}", INK, font)
    picture.save(path, compress_level=1)  # a fifth of the time, a sixth larger
