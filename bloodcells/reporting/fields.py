"""The run folder of predict.py --detect: the fields with numbered cells, and the differential."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from PIL import ImageDraw, ImageFont

from bloodcells.data.preparation import BadImageError
from bloodcells.data.user_images import open_image
from bloodcells.errors import UserError
from bloodcells.inference.output import Prediction
from bloodcells.reporting.labelled import FILES
from bloodcells.tracking import run_folder

INK = (220, 20, 60)


def save_fields(output: Path, content: dict, predictions: Sequence[Prediction]) -> None:
    """Write the run folder, with `content` as its metrics.json. Raises `UserError`."""
    files = dict.fromkeys(one.file for one in predictions)
    pictures = {file: f"field-{number:03}.png" for number, file in enumerate(files, start=1)}
    columns = ("path", "label", "probability", "unlike_training", "x", "y", "side", "picture")
    rows: list[Sequence] = [columns]
    for one in predictions:
        square = one.square
        places = (square.x, square.y, square.side) if square else ("", "", "")
        answer = (one.path, one.label, one.probability, one.unlike_training)
        rows.append([*answer, *places, pictures[one.file]])

    def fill(folder: Path) -> None:
        for file, cells in itertools.groupby(predictions, key=lambda one: one.file):
            draw(folder / pictures[file], file, list(cells))
        run_folder.write_csv(folder / "cells.csv", rows)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(output, fill, last="metrics.json", stale=FILES)


def draw(path: Path, file: str, cells: Sequence[Prediction]) -> None:
    """The field with a box at each cell, its number as in the table, and its class."""
    try:
        picture, _ = open_image(file)
    except BadImageError as error:
        raise UserError(f"{file}: cannot be read any more: {error}") from error
    pen = ImageDraw.Draw(picture)
    size = max(12, max(picture.size) // 60)
    font = ImageFont.load_default(size)
    for one in cells:
        if one.square is None:
            continue
        half = one.square.side / 2
        left, top = one.square.x - half, one.square.y - half
        box = (left, top, one.square.x + half, one.square.y + half)
        number = one.path.rpartition("#")[2]
        pen.rectangle(box, outline=INK, width=max(2, size // 8))
        pen.text((left, max(0, top - 1.2 * size)), f"{number} {one.label}", INK, font)
    picture.save(path)
