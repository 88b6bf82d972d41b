"""Classify your own images of blood cells with the trained weights in weights/.

    python predict.py cell.png photographs/ 'slide 7/*.jpg'    # a table on standard output
    python predict.py --format csv --views 8 cells.npy > cells.csv
    python predict.py --labelled sorted/        # folders named after the classes: adds a report
    python predict.py --export model.onnx       # exports the model for ONNX runtimes

Takes PNG, JPEG, TIFF, BMP and GIF files, .npy and .npz arrays, folders, globs, and - for one image
on standard input. Photographs of the data set's own sizes are cropped and resized as the training
images were; in other images the stained cell is found and framed alike. Predictions go to standard
output; the report of --labelled, the count of --detect and messages go to standard error. Exit code
1: some image could not be used. Not for clinical use.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.tools import parse_predict

if __name__ == "__main__":
    run_script(parse_predict, __file__)  # answers --help and wrong flags before torch loads

import itertools
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import cast

import numpy as np
from PIL import Image
from tqdm import tqdm

from bloodcells.cli.arguments import discard_output
from bloodcells.data import class_names, user_images
from bloodcells.data.user_images import UserImage
from bloodcells.errors import UserError
from bloodcells.inference import onnx_export, output
from bloodcells.inference.classifier import Released, load_classifier
from bloodcells.inference.output import ABSTAINED, Prediction, printable
from bloodcells.tracking import run_folder
from bloodcells.training.device import choose_device


@dataclass
class Tally:
    """What is reported at the end."""

    images: int = 0
    unlike: int = 0
    foreign: int = 0
    refused: int = 0
    kept: list[Prediction] = field(default_factory=list)  # those to be scored or counted


def main() -> None:
    """Classify the images that the command line names."""
    args = parse_predict(__file__)
    files = user_images.find(args.paths) if args.paths else []
    model = load_classifier(args.weights, args.views, choose_device(args.device))
    names = class_names.Names(model.classes, args.names)
    if args.classes:
        model = only(model, names, args.classes)
    labels = class_names.labels_of(files, names) if args.labelled else {}
    if args.labelled:
        class_names.refuse_empty_folders(args.paths, files, names)
    for folder, flag in ((args.output, "--output"), (args.save_crops, "--save-crops")):
        if folder is not None:
            run_folder.prepare(folder, flag=flag)
    tally = Tally()
    images = usable(user_images.read(files, model.size, args.frame), tally)
    if args.export is not None:
        pixels = [cast(np.ndarray, image.pixels) for image in images]
        if files and not pixels:
            raise UserError("--export: none of the images can be used to check the file")
        print(onnx_export.export(model, args.export, pixels))
    else:
        predictions = classify(images, model, labels, args)
        write(watched(predictions, tally), args.format)
        report(tally, labels, model, args)
    if tally.refused:
        tell(f"{tally.refused} image{'s' * (tally.refused > 1)} could not be used")
        sys.exit(1)


def only(model: Released, names: class_names.Names, wanted: list[str]) -> Released:
    """The model restricted to the classes in `wanted`. Raises `UserError`."""
    if wanted == ["normal-differential"]:
        wanted = list(class_names.NORMAL_DIFFERENTIAL)
    model = model.among(names.meanings("--classes", wanted))
    tell(f"the probability is shared among these classes only: {', '.join(model.classes)}")
    return model


def usable(images: Iterable[UserImage], tally: Tally) -> Iterator[UserImage]:
    """The images that have pixels; reports notes and unusable images as they are read."""
    for image in images:
        if text := image.problem or image.note:
            tell(f"{printable(image.name)}: {text}")
        if image.problem:
            tally.refused += 1
        else:
            yield image


def classify(
    images: Iterator[UserImage], model: Released, labels: dict[str, str | None], args: Namespace
) -> Iterator[Prediction]:
    """A prediction for each image, computed batch by batch."""
    numbers = itertools.count(1)
    while batch := list(itertools.islice(images, args.batch_size)):
        pixels = np.stack([cast(np.ndarray, image.pixels) for image in batch])
        foreign = np.array([image.foreign for image in batch])
        results = (values.tolist() for values in model.predict(pixels, foreign, args.batch_size))
        for image, shown, values, distance in zip(batch, pixels, *results, strict=True):
            top = max(values)
            probabilities = dict(zip(model.classes, values, strict=True))
            least = model.sets[args.sets] if args.sets else 2.0
            if args.save_crops is not None:
                save_crop(args, next(numbers), shown)
            yield Prediction(
                path=image.name,
                label=model.classes[values.index(top)] if top >= args.abstain_below else ABSTAINED,
                probability=top,
                probabilities=probabilities,
                unlike_training=distance > model.farthest,
                foreign=image.foreign,
                pixels=shown,
                set=[name for name, p in probabilities.items() if p >= least]
                if args.sets
                else None,
                truth=labels.get(image.file),
                file=image.file,
                square=image.square,
            )


def save_crop(args: Namespace, number: int, pixels: np.ndarray) -> None:
    """Save what the network saw of an image. Raises `UserError`."""
    path = args.save_crops / f"{number:06}.png"
    try:
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def watched(predictions: Iterable[Prediction], tally: Tally) -> Iterator[Prediction]:
    """The predictions, counted as they pass; shows the progress unless they fill the terminal."""
    hidden = True if sys.stdout is not None and sys.stdout.isatty() else None
    for one in tqdm(predictions, unit=" images", disable=hidden):
        tally.images += 1
        tally.unlike += one.unlike_training
        tally.foreign += one.foreign
        if one.truth or one.square:
            tally.kept.append(one)
        yield one


def write(predictions: Iterable[Prediction], form: str) -> None:
    """Print the predictions. Raises `UserError` if standard output cannot be written."""
    if sys.stdout is None:
        raise UserError("standard output is closed")
    try:
        # for any file name
        cast(TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="surrogateescape")
        for line in getattr(output, f"as_{form}")(predictions):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise UserError(f"standard output: cannot write: {error.strerror}") from error


def report(tally: Tally, labels: dict[str, str | None], model: Released, args: Namespace) -> None:
    """Report on all images together: the scores, the images left out, those unlike training."""
    if tally.kept:
        # a second of loading, which users without labels or fields need not wait for
        from bloodcells.evaluation import differential, labelled
        from bloodcells.reporting.fields import save_fields
        from bloodcells.reporting.labelled import save_scores

        if args.detect:
            counted = differential.differential([x.label for x in tally.kept], model.classes)
            print(differential.report(counted), file=sys.stderr)
        else:
            scores = labelled.score(tally.kept, model.classes)
            print(labelled.report(scores), file=sys.stderr)
        if args.output is not None and args.detect:
            save_fields(args, counted, tally.kept)
        elif args.output is not None:
            save_scores(args, scores, tally.kept, model.classes)
        if args.output is not None:
            tell(f"wrote {args.output}")
    for line in class_names.unknown_folders(labels):
        tell(line)
    if tally.foreign:
        tell(
            f"{tally.foreign} of {tally.images} images are not of the data set's kind: their "
            "classes are taken as equally frequent, and calibration and sets promise nothing there"
        )
    if tally.unlike:
        tell(
            f"{tally.unlike} of {tally.images} {'cells' if args.detect else 'images'} are unlike "
            "the training images (? in the table, unlike_training elsewhere): do not rely on their "
            "classes"
        )


def tell(message: str) -> None:
    """Print a line on standard error, above the progress bar if there is one."""
    tqdm.write(f"predict.py: {message}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
