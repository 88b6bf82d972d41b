"""Classify your own images of blood cells with the trained weights in weights/.

    python predict.py cell.png photographs/ 'slide 7/*.jpg'    # a table on standard output
    python predict.py --format csv --views 8 cells.npy > cells.csv
    python predict.py --labelled sorted/        # folders named after the classes: adds a report
    python predict.py --export model.onnx       # exports the model for ONNX runtimes

Takes PNG, JPEG, TIFF, BMP, GIF and WebP files, .npy and .npz arrays, folders, globs, and - for one
image on standard input. Photographs of the data set's own sizes are cropped and resized as the
training images were, and squares of MedMNIST's sizes are resized; in other images the stained cell
is found and framed alike. Predictions go to standard output; the report of --labelled, the count of
--detect and messages go to standard error. Exit code 1: some image could not be used. Not for
clinical use.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.own_images import parse_predict

if __name__ == "__main__":
    run_script(parse_predict, __file__)  # --help ends before torch loads; main parses again

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from tqdm import tqdm

from bloodcells.cli.endings import printable
from bloodcells.data import class_names, image_files, user_images
from bloodcells.data.preparation import NO_CELL
from bloodcells.data.slides import check_pattern, slides_of
from bloodcells.data.user_images import UserImage
from bloodcells.errors import UserError
from bloodcells.inference import onnx_export, output
from bloodcells.inference.adaptation import Adaptation, adapt
from bloodcells.inference.classification import classify, frame_of, pixels_of
from bloodcells.inference.classifier import Released, md5_of
from bloodcells.inference.fine_tuning import holds_for, is_fine_tuned
from bloodcells.inference.loading import load
from bloodcells.inference.output import Prediction
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.training.device import choose_device


@dataclass
class Tally:
    """What is reported at the end."""

    images: int = 0  # classified; with --detect, cells
    unlike: int = 0  # of these, unlike the training images
    foreign: int = 0  # of these, taken as another laboratory's
    by_size: int = 0  # images taken for the data set's by their size
    unusable: int = 0  # images beside these
    unusable_cells: int = 0  # the same, with --detect, of cells
    adaptation: Adaptation | None = None
    counts: Counter[str] = field(default_factory=Counter)  # of the labels given
    kept: list[Prediction] = field(default_factory=list)  # those to be scored or counted


def main() -> None:
    """Classify the images that the command line names."""
    args = parse_predict(__file__)
    files = image_files.find(args.paths) if args.paths else []
    model = load(args.weights, args.views, choose_device(args.device, args.threads))
    if args.adapt and is_fine_tuned(args.weights):
        raise UserError("--adapt: these weights are fitted to a laboratory already")
    fitted = frame_of(args.weights)
    if args.detect and fitted not in ("auto", "cell"):
        note(f"the weights are fitted to --frame {fitted}, but --detect cuts cells out by nucleus")
    args.frame = args.frame or fitted
    names = class_names.Names(model.classes, args.names)
    if args.classes:
        model = restrict_to_classes(model, names, args.classes)
    labels = labels_of(args.paths, files, names, model) if args.labelled else {}
    if args.slide:
        check_pattern([file for file, label in labels.items() if label], args.slide)  # or raises
    prepare_outputs(args, files)
    tally = Tally()
    # lazy: an image is read and classified when `output.write` asks for its prediction
    images: Iterable[UserImage] = usable(files, model.size, args.frame, tally)
    if args.adapt:
        images = list(images)
        model = adapt_to_images(model, images, tally, args.batch_size)
    if args.export is not None:
        checked = list(images)
        if files and not checked:
            raise UserError("--export: none of the images can be used to check the file")
        print(onnx_export.export(model, args.export, pixels_of(checked) if checked else None))
    else:
        settings = args.batch_size, args.sets, args.abstain_below
        predictions = classify(images, model, labels, *settings)
        if args.save_crops is not None:
            predictions = output.save_crops(predictions, args.save_crops)
        output.write(count(predictions, tally), args.format)
        report(tally, labels, names, model, args)
    lost = {"image": tally.unusable, "cell": tally.unusable_cells}
    if any(lost.values()):
        parts = (f"{n} {one}{'s' * (n > 1)}" for one, n in lost.items() if n)
        note(f"{' and '.join(parts)} could not be used")
        sys.exit(1)


def prepare_outputs(args: Namespace, files: list[str]) -> None:
    """Create the folders to write to. Raises `UserError` for one that is not to be written to."""
    if args.output is not None:
        output.refuse_own_folder("--output", args.output, args.paths, files)
        run_folder.prepare(args.output, script=args.code.script)
    if args.save_crops is not None:
        output.refuse_own_folder("--save-crops", args.save_crops, args.paths, files)
        run_folder.refuse_results(args.save_crops, "--save-crops", "perhaps of an earlier command")
        run_folder.prepare(args.save_crops, flag="--save-crops")


def labels_of(
    paths: list[str], files: list[str], names: class_names.Names, model: Released
) -> dict[str, str | None]:
    """The class of each file by its folder's name, None for an unknown name. Raises `UserError`."""
    labels = class_names.labels_of(files, names)
    class_names.refuse_empty_folders(paths, files, names)
    if impossible := set(labels.values()) - {None, *model.classes}:
        raise UserError(
            f"--labelled: a folder is named after {min(map(str, impossible))}, which --classes "
            "says cannot occur; leave out the folder, or name the class"
        )
    return labels


def restrict_to_classes(model: Released, names: class_names.Names, wanted: list[str]) -> Released:
    """The model restricted to the classes in `wanted`. Raises `UserError`."""
    if wanted == ["normal-differential"]:
        wanted = class_names.normal_differential(model.classes)
        if not wanted:
            raise UserError("--classes normal-differential: none is a class of these weights")
    model = model.among(names.meanings("--classes", wanted))
    note(f"the probability is shared among these classes only: {', '.join(model.classes)}")
    return model


def usable(files: list[str], size: int, frame: str, tally: Tally) -> Iterator[UserImage]:
    """The images that have pixels; reports notes and unusable images as they are read."""
    remedy = "" if frame == "detect" else "; --frame none takes the whole image"
    for image in user_images.read(files, size, frame):
        if text := image.problem or image.note:
            advice = remedy if text.startswith(NO_CELL) else ""
            note(f"{printable(image.name)}: {text}{advice}")
        if image.problem and image.square:
            tally.unusable_cells += 1
        elif image.problem:
            tally.unusable += 1
        else:
            tally.by_size += image.by_size
            yield image


def adapt_to_images(
    model: Released, images: list[UserImage], tally: Tally, batch_size: int
) -> Released:
    """The model adapted to these images, and what it was adapted by in the tally.

    Raises `UserError` if that cannot be done.
    """
    if at_home := sum(not image.foreign for image in images):
        raise UserError(
            f"--adapt: {at_home} of {len(images)} images have a size of the data set's own, to "
            "which there is nothing to adapt; pass those of one other laboratory alone, or, if all "
            "are, --frame cell"
        )
    if not images:
        raise UserError("--adapt: none of the images can be used")
    model, tally.adaptation = adapt(model, pixels_of(images), batch_size)
    seen = ", ".join(f"{name} {share:.0%}" for name, share in tally.adaptation.shares.items())
    note(f"adapted to {len(images)} images, which before were: {seen}")
    return model


def count(predictions: Iterable[Prediction], tally: Tally) -> Iterator[Prediction]:
    """The predictions, counted as they pass; shows the progress unless they fill the terminal."""
    fills_the_terminal = sys.stdout is not None and sys.stdout.isatty()
    # None: shown only if standard error is a terminal
    for one in tqdm(predictions, unit=" images", disable=fills_the_terminal or None):
        tally.images += 1
        tally.unlike += one.unlike_training
        tally.foreign += one.foreign
        tally.counts[one.label] += 1
        if one.is_scored or one.square:
            tally.kept.append(one)
        yield one


def report(
    tally: Tally,
    labels: dict[str, str | None],
    names: class_names.Names,
    model: Released,
    args: Namespace,
) -> None:
    """Report on all images together: scores and counts, then what limits the trust in them."""
    content = score(tally, labels, model, args) if labels or args.differential else {}
    if args.output is not None:
        save(content, tally, model, args)
    for line in class_names.unknown_folders(labels, names):
        note(line)
    note_limits(tally, args)


def score(tally: Tally, labels: dict[str, str | None], model: Released, args: Namespace) -> dict:
    """Print the differential count and the scores that were asked for; returns them by name."""
    from bloodcells.evaluation import differential, labelled  # a second, which others save

    content: dict = {}
    if args.differential and tally.images:
        content["differential"] = differential.differential(tally.counts, model.classes)
        print(differential.report(content["differential"]), file=sys.stderr)
    if labels and tally.kept:
        files = [one.file for one in tally.kept]
        try:
            slides = slides_of(files, args.slide) if args.slide else None
        except UserError as error:  # the usable images may be of one slide alone
            note(f"{error}; intervals are over images")
            slides = None
        content["scores"] = labelled.score(tally.kept, model.classes, slides)
        print(labelled.report(content["scores"]), file=sys.stderr)
        if is_fine_tuned(args.weights):
            note("if the weights were fitted to these images, the scores are too high")
    return content


def save(content: dict, tally: Tally, model: Released, args: Namespace) -> None:
    """Write the run folder, if there is an image for it."""
    if not tally.kept:
        known = "" if args.detect else " whose class is known"
        note(f"{args.output}: nothing written, since no image{known} could be used")
        return
    from bloodcells.reporting import classified  # loads matplotlib

    write = classified.save_fields if args.detect else classified.save_scores
    write(args.output, description(tally, model, args) | content, tally.kept)
    note(f"wrote {args.output}")


def note_limits(tally: Tally, args: Namespace) -> None:
    """Print what limits the trust in the answers."""
    ones = "cells" if args.detect else "images"
    if tally.foreign:
        where = holds_for(args.weights)
        note(
            f"{tally.foreign} of {tally.images} {ones} are taken as another laboratory's: their "
            "classes count as equally frequent; calibration and sets promise nothing for them"
            + (f", unless they are of {where}" if where else "")
        )
    if tally.by_size:
        note(
            f"{tally.by_size} of {tally.images} images have a size of the data set's photographs, "
            "or of MedMNIST's, so they were not framed; if they are of another laboratory, try "
            "--frame cell"
        )
    if tally.unlike:
        note(
            f"{tally.unlike} of {tally.images} {ones} are unlike the training images (marked ? in "
            "the table; unlike_training in CSV and JSON): do not rely on their classes"
        )


def description(tally: Tally, model: Released, args: Namespace) -> dict:
    """What was classified, and how: for the run folder."""
    return {
        "dataset": {"name": "the user's images", "paths": list(args.paths)},
        "config": {
            "weights": args.weights.name,
            "weights_md5": md5_of(args.weights.read_bytes()),
            "views": args.views,
            "frame": args.frame,
            "classes": model.classes,
            "abstain_below": args.abstain_below,
            "slide": args.slide,
            "sets": args.sets,
        },
        "images": {
            "classified": tally.images,
            "unusable": tally.unusable,
            "unusable_cells": tally.unusable_cells,
            "foreign": tally.foreign,
            "unlike_training": tally.unlike,
        },
        "adaptation": None if tally.adaptation is None else asdict(tally.adaptation),
        "code": args.code.describe(),
        "environment": environment(model.classifier.means.device.type, args.code),
    }


def note(message: str) -> None:
    """Print a line on standard error, above the progress bar if there is one."""
    tqdm.write(f"predict.py: {message}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
