"""What predict.py writes: a table, CSV, JSON or an HTML page, and the images that it saw."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import cast

import numpy as np
from jinja2 import Environment
from PIL import Image

from bloodcells.cli.endings import closed_pipe_told, printable
from bloodcells.data import image_files
from bloodcells.data.framing import Square
from bloodcells.errors import UserError
from bloodcells.tracking.atomic import write_whole
from bloodcells.tracking.run_folder import csv_line

ABSTAINED = "abstained"
TEMPLATE = Path(__file__).with_name("predictions.html.j2")


@dataclass(frozen=True)
class Prediction:
    """What is said of one image."""

    path: str
    label: str  # a class, or `ABSTAINED`
    probability: float
    probabilities: dict[str, float]  # by class
    unlike_training: bool  # out-of-distribution
    foreign: bool  # not of the data set's kind, by `preparation.prepare`
    pixels: np.ndarray  # uint8 (size, size, 3), as the network saw it
    set: list[str] | None = None  # the prediction set, if asked for
    truth: str | None = None  # the labelled class, "" if unknown; None without labels
    file: str = ""  # the image's file, which may have several cells
    square: Square | None = None  # of a cell found in a field of view

    def columns(self) -> dict:
        """What is printed, by name."""
        found = {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "unlike_training": self.unlike_training,
            "foreign": self.foreign,
        }
        found |= {} if self.set is None else {"set": self.set}
        if self.square is not None:
            found |= {"x": self.square.x, "y": self.square.y, "side": self.square.side}
        return found if self.truth is None else {**found, "truth": self.truth}

    @property
    def is_scored(self) -> bool:
        """Whether the image has a label of a known class."""
        return bool(self.truth)

    @property
    def second(self) -> tuple[str, float]:
        """The runner-up and its probability; a dash where only one class can occur."""
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return ranked[1] if len(ranked) > 1 else ("-", 0.0)

    @property
    def picture(self) -> str:
        """The pixels as a PNG in base64."""
        return in_base64(self.pixels)


def png(pixels: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3), as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def in_base64(pixels: np.ndarray) -> str:
    """An image, uint8 (H, W, 3), as a PNG in base64, for a page."""
    return base64.b64encode(png(pixels)).decode()


def as_table(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Predictions as an aligned table, one line each after the header."""
    yield f"{'class':20} {'p':>6}  {'second':20} {'p':>6}    path"
    for one in predictions:
        second, p = one.second
        unlike = "?" if one.unlike_training else " "
        sets = "" if one.set is None else f"  {{{', '.join(one.set)}}}"
        yield (
            f"{one.label:20} {one.probability:6.4f}  {second:20} {p:6.4f}  {unlike} "
            f"{printable(one.path)}{sets}"
        )


def as_csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Predictions as CSV, with a column for each class's probability."""
    for number, one in enumerate(predictions):
        flat = one.columns()
        flat |= flat.pop("probabilities")
        if "set" in flat:
            flat["set"] = " | ".join(flat["set"])
        if number == 0:
            yield csv_line(flat)
        yield csv_line(flat.values())


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Predictions as one JSON list, one line each."""
    comma = "["
    for one in predictions:
        yield f"{comma}{json.dumps(one.columns())}"
        comma = ","
    yield "]" if comma == "," else "[]"


def as_html(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Predictions as a page of its own: each image as the network saw it, and its class."""
    page = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    # a name that is not UTF-8 holds half a surrogate pair, which cannot be encoded
    text = page.render(predictions=predictions)
    yield text.encode(errors="xmlcharrefreplace").decode()


FORMATTERS = {"table": as_table, "csv": as_csv, "json": as_json, "html": as_html}


def write(predictions: Iterable[Prediction], format_name: str) -> None:
    """Print the predictions; an error or interruption leaves whole lines, and readable JSON.

    Raises `UserError` if standard output cannot be written.
    """
    if sys.stdout is None:
        raise UserError("standard output is closed")
    try:
        # for any file name
        cast(TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="surrogateescape")
        with closed_pipe_told():
            print_lines(FORMATTERS[format_name](predictions), format_name)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"standard output: cannot write: {error.strerror}") from error


def print_lines(lines: Iterator[str], format_name: str) -> None:
    """Print lines; an error or interruption leaves whole ones, and readable JSON."""
    last, terminal = "", sys.stdout.isatty()
    try:
        for line in lines:
            last = printable(line, kept="\r\n") if terminal else line
            sys.stdout.write(f"{last}\n")  # `print` could be interrupted before the break
    except BaseException as stop:
        if format_name == "json" and not last.endswith("]"):
            sys.stdout.write("]\n" if last else "[]\n")
        if last and isinstance(stop, KeyboardInterrupt):
            done = "stopped; the output holds the images classified so far"
            raise KeyboardInterrupt(done) from stop
        raise
    finally:
        sys.stdout.flush()


def save_crops(predictions: Iterable[Prediction], folder: Path) -> Iterator[Prediction]:
    """The predictions, whose images are saved as they pass, as the network saw them."""
    for number, one in enumerate(predictions, start=1):
        # a file's name may have 255 bytes; not durable, as there may be many
        stem = os.fsencode(Path(one.path).stem)[:60]
        name = stem.decode(sys.getfilesystemencoding(), errors="ignore")
        write_whole(folder / f"{number:06}-{name}.png", png(one.pixels), durable=False)
        yield one


def refuse_own_folder(flag: str, folder: Path, paths: list[str], files: list[str]) -> None:
    """Raise `UserError` for an output folder that has, or would add to, the images to classify."""
    target = real(folder)
    images = [Path(file) for file in files if file != "-"]
    parents = {real(parent) for parent in {one.parent for one in images}}
    # of a link, both the folder that it is in and the one that it leads to
    if target in parents or any(real(one).parent == target for one in images):
        raise UserError(f"{flag} {folder}: images are there; pass another folder")
    there = [Path(name) for path in paths for name in image_files.named(path)]
    for path in there:
        if os.path.isdir(path) and target.is_relative_to(real(path)):
            raise UserError(
                f"{flag} {folder}: within {path}, where the images are; pass another folder"
            )


def real(path: Path) -> Path:
    """The path without links; of a link that leads to itself, as it is."""
    return Path(os.path.realpath(path))
