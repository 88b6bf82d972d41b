"""Calibrate a trained network for predict.py, and measure how far it can be trusted.

    python model_release.py --elsewhere wbc/         # writes weights/cnn-robust.*, plots/release/
    python model_release.py --config release-stages  # weights/cnn-stages.*, plots/release-stages/
    python model_release.py --run plots/mine --output plots/my-release --weights mine.safetensors

For each seed's model, the temperature, the prediction sets and the out-of-distribution threshold
are fitted on validation and scored once on test. The test images are also scored framed by the
nucleus, as predict.py frames other laboratories' images. The model of the first seed is released,
not the best one. Takes seven to twelve minutes on two cores. Writes metrics.json and figures, and
the weights (.safetensors) with their card (.json). With --elsewhere, another laboratory's images
are scored, too (--slide: with an interval over slides); results that have such scores are not
replaced by results without.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_release

if __name__ == "__main__":
    run_script(parse_release, __file__)  # --help ends before torch loads; main parses again

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

import models
from bloodcells.cli.arguments import data_settings, settings_of, warning
from bloodcells.data import bloodmnist, out_of_distribution
from bloodcells.data.bloodmnist import Dataset, Split
from bloodcells.errors import UserError
from bloodcells.evaluation import calibration, elsewhere, framed, uncertainty, unseen
from bloodcells.inference.cards import NORMALISATION, VIEWS, is_names
from bloodcells.inference.classifier import (
    Classifier,
    class_means,
    features,
    released,
    save_classifier,
)
from bloodcells.inference.networks import load_network, refuse_unfit
from bloodcells.reporting.figures.domains import corrupted_examples, domains
from bloodcells.reporting.figures.uncertainty import draw_all
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.tracking.files import read_entry
from bloodcells.tracking.provenance import Code
from bloodcells.tracking.run_folder import SavedRun, named
from bloodcells.training.device import choose_device, keep_freed_memory
from bloodcells.training.domain_randomisation import randomise_stored

OUTSIDERS = 500  # out-of-distribution images of each kind
CORRUPTED = 300  # test images that are corrupted for a figure


def main() -> None:
    """Calibrate each seed's model, score it on test, and write the weights of the first."""
    args = parse_release(__file__)

    run = run_folder.read(run_folder.find(args.run))
    device = choose_device(args.device, args.threads)
    record = environment(device.type, args.code)
    labels = run.metrics["config"]["labels"]
    if args.elsewhere and labels != "classes":
        raise UserError(f"--elsewhere: not allowed with a model of {labels}; it needs classes")
    dataset = bloodmnist.load(**data_settings(args), labels=labels)
    refuse_unreleasable(run, dataset)
    run_folder.prepare(args.output, args.code, script=args.code.script)
    run_folder.prepare(args.weights.parent, flag="--weights")
    refuse_replacing_committed(args.weights, args.code)
    keep_freed_memory()
    there = elsewhere.read(args.elsewhere, args.size, args.slide) if args.elsewhere else None
    foreign = there.images if there else None
    framed_test = framed.frame(dataset.test)
    if framed_test is None:
        print("no stained nucleus found in any test image: framed images are not scored")
    released_models = measure_models(run, dataset, framed_test, foreign, device, args)
    members = [model.scores for model in released_models]

    content = {
        "dataset": run.metrics["dataset"],
        "model": run.metrics["model"],
        "config": {**settings_of(args), "run": run.folder.name},
        "code": args.code.describe(),
        "environment": record,
        "runs": {run.folder.name: run.metrics["config"]},
        "runs_code": {run.folder.name: run.metrics["code"]},
        **uncertainty.summary(run, members),
        "framed": None,
    }
    if framed_test is not None:
        content["framed"] = {
            **elsewhere.deviations([model.framed for model in released_models]),
            "left_out": framed.left_out(dataset.test, framed_test),
        }
    curves = None
    if there is not None:
        scores = [model.elsewhere for model in released_models]
        content["elsewhere"] = elsewhere.summary(there, scores)
        curves = there.images.labels, [found[max(VIEWS)]["probabilities"] for found in scores]

    def fill(scratch: Path) -> None:
        draw_all(scratch, args.figure_format, members, dataset.test, warning(args), curves)
        draw_domains(
            scratch / f"domains.{args.figure_format}", released_models[0], dataset, foreign, args
        )
        run_folder.write_json(scratch / "metrics.json", content)

    first = released_models[0]
    run_folder.write(args.output, fill, last="metrics.json")
    save_classifier(args.weights, first.classifier.cpu(), first.card)
    print(uncertainty.table(content))
    print(f"wrote {args.weights}")
    print(f"wrote {args.output}")


@dataclass
class Measured:
    """One seed's model, with what was measured of it."""

    classifier: Classifier
    card: dict
    scores: dict  # by `uncertainty.measure`
    framed: dict  # by `framed.score`, of the test images; empty if none can be framed
    elsewhere: dict[int, dict]  # by the number of views; empty if no images of elsewhere are given


def measure_models(
    run: SavedRun,
    dataset: Dataset,
    framed_test: Split | None,
    foreign: Split | None,
    device: torch.device,
    args: Namespace,
) -> list[Measured]:
    """Calibrate and score each seed's model."""
    strange = out_of_distribution.make(OUTSIDERS, args.size, args.seed)
    measured = []
    for row in run.metrics["runs"]:
        classifier = load_member(run, row["weights"], dataset.train, device)
        found = uncertainty.measure(classifier, dataset, strange, args.false_alarms)
        print(f"seed {row['seed']}: {uncertainty.line(found)}", flush=True)
        card = make_card(run, row["seed"], found, dataset.train, args)
        if note := calibration.without_guarantee(found["views"][max(VIEWS)]["sets"]):
            print(f"  {note}")
        at_home: dict = {}
        there: dict[int, dict] = {}
        if framed_test is not None:
            at_home = framed.score(released(classifier, card, max(VIEWS)), framed_test)
            score = f"{at_home['balanced_accuracy']:.3f} balanced accuracy"
            print(f"  framed: {score}, {max(VIEWS)} views")
        if foreign is not None:
            for views in VIEWS:
                there[views] = elsewhere.score(released(classifier, card, views), foreign)
            print(f"  elsewhere: {elsewhere.line(there)}", flush=True)
        measured.append(Measured(classifier, card, found, at_home, there))
    return measured


def draw_domains(
    path: Path, first: Measured, dataset: Dataset, foreign: Split | None, args: Namespace
) -> None:
    """Draw images at home, corrupted and elsewhere, with the released model's accuracies."""
    views = max(VIEWS)
    at_home = first.scores["views"][views]["after"]["accuracy"]
    sample = dataset.test.sample(CORRUPTED, args.seed)
    corrupted = unseen.corrupted_accuracy(first.classifier.network, sample, args.seed)
    rows = [
        ("test images", dataset.test, f"accuracy {at_home:.1%}, {views} views"),
        (
            "corrupted test images",
            corrupted_examples(dataset.test, 3, args.seed),
            f"accuracy {np.mean(list(corrupted.values())):.1%}, one view",
        ),
    ]
    if foreign is not None:
        there = first.elsewhere[views]["balanced_accuracy"]
        rows.append(
            (args.elsewhere.name, foreign, f"balanced accuracy\n{there:.1%}, {views} views")
        )
    domains(path, rows, warning(args))


def refuse_unreleasable(run: SavedRun, dataset: Dataset) -> None:
    """Raise `UserError` if the models of a run folder cannot be released."""
    metrics, flag = run.metrics, f"--run {run.folder}"
    network = models.MODELS.get(metrics["model"]["name"], Tensor)
    if not issubclass(network, models.CellNet):
        raise UserError(f"{flag}: only CellNet and RobustNet are released")
    if metrics["config"].get("protocol") != "official":
        raise UserError(f"{flag}: its --protocol is not official")
    if metrics["config"]["views"] not in VIEWS:
        raise UserError(f"{flag}: its --views is neither 1 nor 8")
    if edited := metrics["code"]["edited"]:
        raise UserError(f"{flag}: its code is edited, {named(edited)}: commit, retrain")
    refuse_unfit(run, dataset.describe(), flag)
    for split, images in dataset.splits().items():
        for name, count in zip(dataset.classes, images.class_counts(), strict=True):
            if not count:
                raise UserError(f"{flag}: its data set has no {split} images of {name!r}: add some")
    if not is_names(list(dataset.classes)):
        raise UserError(
            f"{flag}: names of its classes cannot be shown, or head a column of predictions: "
            f"{named(dataset.classes)}; give them others"
        )


def refuse_replacing_committed(path: Path, code: Code) -> None:
    """Raise `UserError` if edited code would replace weights that edited code did not make."""
    card = path.with_suffix(".json")
    if not code.edited or not card.exists():
        return
    if not read_entry(card, "code", "edited"):  # or the card is unreadable: do not replace it
        raise UserError(
            f"--weights {path}: edited code did not make it, and these files are edited: "
            f"{named(code.edited)}; pass another file, or omit the flag"
        )


def load_member(run: SavedRun, name: str, train: Split, device: torch.device) -> Classifier:
    """A seed's network, rounded to float16, with the class means of its features."""
    network = cast(models.CellNet, load_network(run, name).half().float())
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train = seen(run, train)
    images, labels = bloodmnist.to_device(train, device)
    means = class_means(features(network, cast(Tensor, images)), labels.cpu())
    return Classifier(network, means).eval().to(device)


def seen(run: SavedRun, split: Split) -> Split:
    """The images as the recipe shows them: with domain randomisation, each as it is and changed.

    So that "unlike the training images" says less of the laboratory.
    """
    config = run.metrics["config"]
    if not config.get("domain_randomisation"):
        return split
    stored = torch.from_numpy(split.images)
    changed = randomise_stored(stored, seed=0, unchanged=config["unchanged"]).numpy()
    images = np.concatenate([split.images, changed])
    return Split(images, np.concatenate([split.labels, split.labels]), split.names)


def make_card(run: SavedRun, seed: int, member: dict, train: Split, args: Namespace) -> dict:
    """What `predict.py` needs to know about the weights, and where they come from."""
    metrics = run.metrics
    frequencies = train.class_counts() / len(train)
    return {
        "model": metrics["model"]["name"],
        "widths": metrics["config"].get("widths"),
        "parameters": metrics["model"]["parameters"],
        "classes": list(train.names),
        "frequencies": frequencies.tolist(),
        "size": metrics["config"]["size"],
        "normalisation": NORMALISATION,
        "calibration": {
            str(views): {"temperature": part["temperature"], "sets": part["sets"]}
            for views, part in member["views"].items()
        },
        "farthest": member["farthest"],
        "false_alarms": args.false_alarms,
        "training": {
            "run": run.folder.name,
            "seed": seed,
            "git_commit": metrics["environment"]["git_commit"],
            "dataset": metrics["dataset"],
            "config": metrics["config"],
            "code": metrics["code"],
        },
        "code": args.code.describe(),
    }


if __name__ == "__main__":
    run_script(main)
