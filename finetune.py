"""Fit the released network's last layer to labelled images of your laboratory.

    python finetune.py sorted/ --slide '[^_]+' --output plots/my-lab    # images named SLIDE_...
    python finetune.py sorted/ --output plots/my-lab                    # slides not known
    python predict.py --weights plots/my-lab/finetuned.safetensors --views 8 new/

`sorted/` has folders named after the classes. --slide says which part of a file's name is the slide
or person: images of one slide are held out together, since those of a new one look different. A
fifth of the slides at a time is scored by a layer that is fitted to the others (cross-validation):
balanced accuracy and recalls, before and after, and the temperature and prediction sets of the new
weights. Also scored are fits to fewer images, and fits without one class's labels. Takes two
minutes for 500 images. Writes metrics.json, predictions.csv, figures and the weights with their
card. docs/other-laboratories.md has measurements.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.own_images import parse_finetune

if __name__ == "__main__":
    run_script(parse_finetune, __file__)  # --help ends before torch loads; main parses again

from argparse import Namespace
from pathlib import Path

import numpy as np

from bloodcells.cli.endings import as_typed
from bloodcells.data import image_files, labelled_folders
from bloodcells.data.class_names import Names
from bloodcells.errors import UserError
from bloodcells.evaluation import calibration, metrics
from bloodcells.evaluation.balanced_accuracy import over
from bloodcells.evaluation.fine_tuned import LaboratoryImages, study
from bloodcells.inference import fine_tuning
from bloodcells.inference.cards import LEVELS, VIEWS
from bloodcells.inference.classifier import Released, md5_of
from bloodcells.inference.loading import load
from bloodcells.inference.output import refuse_own_folder
from bloodcells.reporting.figures import studies, training
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.training.device import choose_device, keep_freed_memory

FEWEST = 5  # images of a class
WEIGHTS = "finetuned.safetensors"


def main() -> None:
    """Score and write the network that is fitted to the images."""
    args = parse_finetune(__file__)
    device = choose_device(args.device, args.threads)
    model = load(args.weights, max(VIEWS), device)
    if fine_tuning.is_fine_tuned(args.weights):
        raise UserError(f"--weights {args.weights}: fitted to a laboratory already; begin anew")
    record = environment(device.type, args.code)
    keep_freed_memory()
    files = image_files.find(args.paths)
    refuse_own_folder("--output", args.output, args.paths, files)
    run_folder.prepare(args.output, args.code, script=args.code.script)
    images = read(args, files, model)
    scores, held_out = study(model, images, args.seed)
    layer = fine_tuning.fit_last_layer(model, images.features, images.labels)
    content = {**description(args, model, images), "environment": record, **scores}
    released = fine_tuning.card_of(args.weights)["calibration"]
    tensors, card = fine_tuning.fine_tuned(
        args.weights, layer, entries(model, images, held_out, released, content)
    )
    calibrated = card["calibration"][str(max(VIEWS))]
    found = calibration.apply_temperature(held_out[max(VIEWS)], calibrated["temperature"])

    def fill(folder: Path) -> None:
        confusion = metrics.confusion_matrix(images.labels, found[None])
        path = folder / f"confusion_matrix.{args.figure_format}"
        counted = f"{len(images.labels)} images of yours, each held out"
        training.confusion_matrix(path, confusion, model.classes, counted=counted)
        studies.label_curve(folder / f"label_curve.{args.figure_format}", content)
        run_folder.write_csv(folder / "predictions.csv", table_of(model, images, found))
        (folder / WEIGHTS).write_bytes(tensors)
        run_folder.write_json((folder / WEIGHTS).with_suffix(".json"), card)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    print("\n".join(lines(content)))
    if note := calibration.without_guarantee(calibrated["sets"]):
        print(note)
    weights = as_typed([str(args.output / WEIGHTS)])
    print(f"wrote {args.output}; next: python predict.py --weights {weights} --views 8 IMAGES")


def read(args: Namespace, files: list[str], model: Released) -> LaboratoryImages:
    """The labelled images that can be used. Raises `UserError` if they are too few."""
    names = Names(model.classes, args.names)
    found = labelled_folders.read(
        args.paths, files, names, model.size, args.frame, args.slide, "PATH"
    )
    if by_size := sum(image.by_size for image in found.images):
        print(
            f"{by_size} of {len(found.images)} images have a size of the data set's photographs, "
            "or of MedMNIST's, so they are not framed; for another laboratory's, try --frame cell"
        )
    labels, pixels = found.labels, found.pixels
    counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    if len(counts) < 2:
        raise UserError("PATH: usable images of at least two classes are needed")
    if few := [model.classes[label] for label, count in counts.items() if count < FEWEST]:
        raise UserError(
            f"PATH: {few[0]} has fewer than {FEWEST} usable images; add some, or leave it out"
        )
    if found.slides is not None:
        for label in counts:
            if len(np.unique(found.slides[labels == label])) == 1:
                print(
                    f"{model.classes[label]}: all on one slide: while this is held out, the fit "
                    "has no labels of the class; its recall, the temperature and the sets suffer"
                )
    released, distances = model.predict(pixels, np.ones(len(pixels), bool), 128)
    features = fine_tuning.view_features(model.classifier, pixels)
    images = [image.name for image in found.images]
    return LaboratoryImages(images, labels, found.slides, released, features, distances)


def description(args: Namespace, model: Released, images: LaboratoryImages) -> dict:
    """What was fitted, to what, and how."""
    counts = np.bincount(images.labels, minlength=len(model.classes)).tolist()
    return {
        "dataset": {
            "name": ", ".join(Path(path).name or path for path in args.paths),
            "counts": dict(zip(model.classes, counts, strict=True)),
        },
        "slides": None if images.slides is None else int(images.slides.max()) + 1,
        "config": {
            "weights": args.weights.name,
            "frame": args.frame,
            "slide": args.slide,
            "seed": args.seed,
        },
        "weights_md5": md5_of(args.weights.read_bytes()),
        "code": args.code.describe(),
    }


def entries(
    model: Released,
    images: LaboratoryImages,
    held_out: dict[int, np.ndarray],
    released: dict,
    content: dict,
) -> dict:
    """What the card of the new weights says of them: calibration, distances, origin.

    Temperatures are at least the `released` calibration's: a few images with hardly a mistake would
    ask for certainty.
    """
    calibrations = {}
    for views, found in held_out.items():
        least = released[str(views)]["temperature"]
        fitted = calibration.fit_temperature(images.labels, found, if_all_right=least)
        temperature = max(fitted, least)
        calibrated = calibration.apply_temperature(found, temperature)
        sets = {x: calibration.set_threshold(images.labels, calibrated, float(x)) for x in LEVELS}
        calibrations[str(views)] = {"temperature": temperature, "sets": sets}
    origin = {key: content[key] for key in ("dataset", "config", "weights_md5", "code")}
    farthest = max(model.farthest, float(np.quantile(images.distances, 0.99)))
    return {"calibration": calibrations, "farthest": farthest, fine_tuning.ENTRY: origin}


def table_of(model: Released, images: LaboratoryImages, probabilities: np.ndarray) -> list[tuple]:
    """The rows of predictions.csv: each image's answer by a fit to other images."""
    answers = probabilities.argmax(1)
    rows = zip(images.files, images.labels, answers, probabilities.max(1), strict=True)
    return [
        ("path", "truth", "label", "probability"),
        *((path, model.classes[t], model.classes[a], f"{p:.4f}") for path, t, a, p in rows),
    ]


def lines(content: dict) -> list[str]:
    """The scores as text for the console."""
    images = sum(content["dataset"]["counts"].values())
    text = [
        f"balanced accuracy over {len(content['classes'])} classes, {images} images, all classes "
        f"of the network possible, {max(VIEWS)} views"
    ]
    for name, key in (
        ("as released", "released"),
        ("as released, if only these occur", "given_classes"),
        ("fitted, on what was held out", "fine_tuned"),
    ):
        score = content[key]
        ends = f"[{score['low']:.3f}, {score['high']:.3f}]"
        text.append(f"  {name:33} {score['mean']:.3f} {ends}")
    gain = content["gain"]
    ends = f"[{gain['low']:+.3f}, {gain['high']:+.3f}]"
    text.append(f"  {'gain of the fit':32} {gain['mean']:+.3f} {ends}")
    if content["slides"] is None:
        text.append("images of one slide may be on both sides: expect less on a new one (--slide)")
    else:
        by_class = [row["slides"] for row in content["classes"]]
        text.append(f"  [95 % intervals {over(content['slides'], by_class)}]")
        text.append(f"  {'if held out at random (too high)':33} {content['at_random']:.3f}")
    text.append(f"recall: {'':21} images   released   fitted   fitted without its labels")
    for row in content["classes"]:
        shares = (row[key] for key in ("released", "fine_tuned", "without_its_labels"))
        recalls = "     ".join("  -  " if share is None else f"{share:.3f}" for share in shares)
        text.append(f"  {row['class']:28} {row['images']:5}   {recalls}")
    for row in content["curve"]:
        score = f"{row['mean']:.3f} ± {row['std']:.3f}"
        count = f"at most {row['images_of_each_class']:2} images of each class"
        text.append(f"fitted to {count}: {score}")
    return text


if __name__ == "__main__":
    run_script(main)
