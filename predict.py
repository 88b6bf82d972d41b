"""Classify your own images of blood cells with the trained weights in weights/.

    python predict.py cell.png photographs/ 'slide 7/*.jpg'    # a table on standard output
    python predict.py --format csv --views 8 cells.npy > cells.csv
    python predict.py --labelled sorted/        # folders named after the classes: adds a report
    python predict.py --export model.onnx       # exports the model for ONNX runtimes

Takes PNG, JPEG, TIFF, BMP and GIF files, .npy and .npz arrays, folders, globs, and - for one image
on standard input. Photographs of 360 x 363 pixels are cropped and resized as the training images
were; other images are used whole, so each should show one centred cell. Results go to standard
output, everything else to standard error. Exit code 1: some image could not be used. Not for
clinical use.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.tools import parse_predict

if __name__ == "__main__":
    run_script(parse_predict, __file__)  # answers --help and wrong flags before torch loads

import itertools
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import cast

import numpy as np
import torch
from tqdm import tqdm

from bloodcells.cli.arguments import discard_output
from bloodcells.data import user_images
from bloodcells.data.user_images import Cell
from bloodcells.errors import UserError
from bloodcells.inference import onnx_export, output
from bloodcells.inference.classifier import Released, load_classifier
from bloodcells.inference.output import ABSTAINED, Row, printable
from bloodcells.training.device import choose_device


@dataclass
class Tally:
    """Counts and answers for the summary at the end."""

    images: int = 0
    unlike: int = 0
    refused: int = 0
    truths: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


def main() -> None:
    """Classify the images that the command line names."""
    args = parse_predict(__file__)
    names = user_images.find(args.paths) if args.paths else []
    model = load_classifier(args.weights, args.views, choose_device(args.device))
    if args.labelled:
        for name in names:
            truth(name, model.classes)  # reports a wrong folder name before any work
    tally = Tally()
    cells = usable(user_images.read(names, model.size, args.crop), tally)
    if args.export is not None:
        images = [cell.pixels for cell in cells]
        if names and not images:
            raise UserError("--export: none of the images can be used to check the exported file")
        print(onnx_export.export(model, args.export, cast(list[np.ndarray], images)))
    else:
        write(watched(classify(cells, model, args), tally), args.format)
        tell_all(tally, model.classes)
    if tally.refused:
        tell(f"{tally.refused} image{'s' * (tally.refused > 1)} could not be used")
        sys.exit(1)


def truth(name: str, classes: list[str]) -> str:
    """The class that an image's folder is named after. Raises `UserError` if there is none."""
    if name == "-":
        raise UserError("--labelled: standard input has no folder that names its class")
    folder = os.path.basename(os.path.dirname(os.path.abspath(name)))
    plain = folder.lower().replace("_", " ").replace("-", " ")
    wanted = "immature granulocyte" if plain == "ig" else plain.removesuffix("s")
    if wanted not in classes:
        raise UserError(
            f"--labelled: {name}: folder '{folder}' is not one of the classes {', '.join(classes)}"
        )
    return wanted


def usable(cells: Iterable[Cell], tally: Tally) -> Iterator[Cell]:
    """The images that could be read; reports the others, and any notes, on standard error."""
    for cell in cells:
        if text := cell.problem or cell.note:
            tell(f"{printable(cell.name)}: {text}")
        if cell.problem:
            tally.refused += 1
        else:
            yield cell


def classify(cells: Iterator[Cell], model: Released, args: Namespace) -> Iterator[Row]:
    """One row per image, predicted in batches."""
    device = model.classifier.centres.device
    while batch := list(itertools.islice(cells, args.batch_size)):
        images = torch.from_numpy(
            np.stack(cast(list[np.ndarray], [cell.pixels for cell in batch]))
        ).to(device)
        results = (values.tolist() for values in model.classifier.predict(images, args.batch_size))
        for cell, values, distance in zip(batch, *results, strict=True):
            top = max(values)
            sure = top >= args.abstain_below
            row = {
                "path": cell.name,
                "label": model.classes[values.index(top)] if sure else ABSTAINED,
                "probability": top,
                "probabilities": dict(zip(model.classes, values, strict=True)),
                "unlike_training": distance > model.farthest,
            }
            if args.sets:
                least = model.sets[args.sets]
                row["set"] = [name for name, p in row["probabilities"].items() if p >= least]
            if args.labelled:
                row["truth"] = truth(cell.file, model.classes)
            yield row


def watched(rows: Iterable[Row], tally: Tally) -> Iterator[Row]:
    """The rows, counted in `tally`; shows a progress bar unless they go to the terminal."""
    for row in tqdm(rows, unit=" images", disable=True if sys.stdout.isatty() else None):
        tally.images += 1
        tally.unlike += row["unlike_training"]
        if "truth" in row:
            tally.truths.append(row["truth"])
            tally.answers.append(row["label"])
        yield row


def write(rows: Iterable[Row], form: str) -> None:
    """Print the rows. Raises `UserError` if standard output cannot be written."""
    if sys.stdout is None:
        raise UserError("standard output is closed")
    try:
        # so that any file name can be printed
        cast(TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="surrogateescape")
        for line in getattr(output, f"as_{form}")(rows):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise UserError(f"standard output: cannot write: {error.strerror}") from error


def tell_all(tally: Tally, classes: list[str]) -> None:
    """Print the summary of all images on standard error."""
    if tally.truths:
        print(output.report(tally.truths, tally.answers, classes), file=sys.stderr)
    if tally.unlike:
        tell(
            f"{tally.unlike} of {tally.images} images are unlike the training cells (? in the "
            "table, unlike_training elsewhere): their classes mean little"
        )


def tell(message: str) -> None:
    """Print a line on standard error, above the progress bar if there is one."""
    tqdm.write(f"predict.py: {message}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
