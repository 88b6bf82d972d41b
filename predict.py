"""Tell the kinds of blood cells in your own images, with the trained weights of weights/.

    python predict.py cell.png photographs/ 'slide 7/*.jpg'    # a table on standard output
    python predict.py --format csv --views 8 cells.npy > cells.csv
    python predict.py --labelled sorted/        # folders named after the classes: a report too
    python predict.py --export model.onnx       # the same as one file for ONNX runtimes

Takes PNG, JPEG, TIFF, BMP and GIF files, .npy and .npz arrays, folders, globs, and - for one image
on standard input. Photographs of 360 x 363 pixels are cropped and reduced as the training images
were, and others whole, so show one cell in the middle. Results go to standard output, all else to
standard error. Exit code 1: some image could not be used. Not for clinical use.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcells.cli.arguments import (
    ROOT,
    HelpFormatter,
    Parser,
    UserError,
    discard_output,
    run_script,
    share,
    whole_number,
)
from bloodcells.inference.output import ABSTAINED, Row, printable

if TYPE_CHECKING:  # both take long to load
    from bloodcells.data.user_images import Cell
    from bloodcells.inference.classifier import Released

FORMATS = ("table", "csv", "json")


@dataclass
class Tally:
    """What to tell at the end."""

    images: int = 0
    unlike: int = 0
    refused: int = 0
    truths: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


def main() -> None:
    args = parse_arguments()
    from bloodcells.data import user_images

    names = user_images.find(args.paths) if args.paths else []  # before torch, which is slow

    from bloodcells.inference.classifier import load_classifier
    from bloodcells.training import loop

    device = loop.choose_device(args.device)
    model = load_classifier(args.weights, args.views, device)
    if args.labelled:
        for name in names:
            truth(name, model.classes)  # a wrong folder shows before any work
    tally = Tally()
    cells = usable(user_images.read(names, model.size, args.crop), tally)
    if args.export is not None:
        from bloodcells.inference import onnx_export

        images = [cell.pixels for cell in cells]
        if names and not images:
            raise UserError("--export: none of the images can be used to check the file")
        print(onnx_export.export(model, args.export, images))
    else:
        write(watched(classify(cells, model, args), tally), args.format)
        tell_all(tally, model.classes)
    if tally.refused:
        tell(f"{tally.refused} image{'s' * (tally.refused > 1)} could not be used")
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="image, folder, glob, array, or -")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the results")
    parser.add_argument(
        "--views",
        type=int,
        choices=(1, 8),
        default=1,
        help="rotations and reflections to average over; 8 is surer and takes 8 times as long",
    )
    parser.add_argument(
        "--crop",
        type=crop,
        default="auto",
        metavar="{auto,whole,N}",
        help="keep the middle N x N pixels, or the whole image; auto: crop photographs of the "
        "data set's size, 360 x 363",
    )
    parser.add_argument(
        "--abstain-below", type=share, default=0.0, metavar="P", help="answer only when as sure"
    )
    parser.add_argument(
        "--sets",
        choices=("0.95", "0.99"),
        help="add the set of classes that should hold the truth in that share of images",
    )
    parser.add_argument(
        "--labelled",
        action="store_true",
        help="the folder of each image names its class: report the accuracy",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE.onnx",
        help="write the model as ONNX instead, checked on the images of PATH or on drawn cells",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=ROOT / "weights" / "cnn-best.safetensors",
        metavar="FILE",
        help="trained weights, with their .json beside them",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute"
    )
    parser.add_argument(
        "--batch-size", type=whole_number(1, 2**20), default=128, help="images at a time"
    )
    args = parser.parse_intermixed_args()
    if not args.paths and args.export is None:
        raise UserError("no images: name files or folders, or - for standard input")
    for idle in ("format", "abstain_below", "sets", "labelled"):
        if args.export is not None and getattr(args, idle) != parser.get_default(idle):
            raise UserError(f"--{idle.replace('_', '-')} does nothing with --export")
    return args


def crop(text: str) -> str:
    """A parser type: "auto", "whole", or a side in pixels."""
    if text not in ("auto", "whole"):
        whole_number(14, 10**5)(text)
    return text


def truth(name: str, classes: list[str]) -> str:
    """The class that the folder of an image is named after. Raises `UserError` for none."""
    if name == "-":
        raise UserError("--labelled: standard input has no folder to name its class")
    folder = os.path.basename(os.path.dirname(os.path.abspath(name)))
    plain = folder.lower().replace("_", " ").replace("-", " ")
    wanted = "immature granulocyte" if plain == "ig" else plain.removesuffix("s")
    if wanted not in classes:
        raise UserError(
            f"--labelled: {name}: its folder '{folder}' is none of the classes {', '.join(classes)}"
        )
    return wanted


def usable(cells: Iterable[Cell], tally: Tally) -> Iterator[Cell]:
    """The cells that have pixels; tells of the others, and of what is to note, as it goes."""
    for cell in cells:
        if text := cell.problem or cell.note:
            tell(f"{printable(cell.name)}: {text}")
        if cell.problem:
            tally.refused += 1
        else:
            yield cell


def classify(cells: Iterator[Cell], model: Released, args: argparse.Namespace) -> Iterator[Row]:
    """A row an image, a batch at a time."""
    import numpy as np
    import torch

    device = model.classifier.centres.device
    while batch := list(itertools.islice(cells, args.batch_size)):
        images = torch.from_numpy(np.stack([cell.pixels for cell in batch])).to(device)
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
    """The rows, counted as they pass; shows the progress unless they fill the terminal."""
    from tqdm import tqdm

    for row in tqdm(rows, unit=" images", disable=True if sys.stdout.isatty() else None):
        tally.images += 1
        tally.unlike += row["unlike_training"]
        if "truth" in row:
            tally.truths.append(row["truth"])
            tally.answers.append(row["label"])
        yield row


def write(rows: Iterable[Row], form: str) -> None:
    """Print the rows. Raises `UserError` if standard output takes no more."""

    from bloodcells.inference import output

    if sys.stdout is None:
        raise UserError("standard output is closed")
    try:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # for any file name
        for line in getattr(output, f"as_{form}")(rows):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise UserError(f"standard output: cannot write: {error.strerror}") from error


def tell_all(tally: Tally, classes: list[str]) -> None:
    """What is to say of all images together."""
    from bloodcells.inference import output

    if tally.truths:
        print(output.report(tally.truths, tally.answers, classes), file=sys.stderr)
    if tally.unlike:
        tell(
            f"{tally.unlike} of {tally.images} images are unlike the training cells (? in the "
            "table, unlike_training elsewhere): their classes mean little"
        )


def tell(message: str) -> None:
    """A line on standard error, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(f"predict.py: {message}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
