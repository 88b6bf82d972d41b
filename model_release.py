"""Make a trained network ready for predict.py, and measure how far it can be trusted.

    python model_release.py                         # writes weights/cnn-best.* and plots/release/
    python model_release.py --run plots/my-run      # of another run with --save-weights

Temperatures, sets of classes and the bound on unlike images are fitted on validation, for every
seed's model, and measured on test once. Released is the first seed's model, not the best one. Takes
six minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcells.cli.arguments import ROOT, UserError, make_parser, parse, run_script, share, warning

if TYPE_CHECKING:  # torch takes seconds to load
    from bloodcells.data.bloodmnist import Split
    from bloodcells.inference.classifier import Classifier
    from bloodcells.tracking.run_folder import SavedRun

NON_CELLS = 500  # of each kind


def main() -> None:
    args = parse_arguments()

    from bloodcells.data import bloodmnist, out_of_distribution
    from bloodcells.evaluation import uncertainty
    from bloodcells.inference.classifier import save_classifier
    from bloodcells.reporting import results
    from bloodcells.tracking import run_folder
    from bloodcells.training import loop

    run = run_folder.read(run_folder.find(args.run))
    device = loop.choose_device(args.device)
    environment = run_folder.environment(device.type)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    check(run, dataset.describe())
    run_folder.prepare(args.output)
    run_folder.prepare(args.weights.parent, flag="--weights")
    loop.keep_freed_memory()
    strange = out_of_distribution.make(NON_CELLS, args.size, args.seed)
    members, first = [], None
    for row in run.metrics["runs"]:
        classifier = load_member(run, row["weights"], dataset.train, device)
        members.append(uncertainty.measure(classifier, dataset, strange, args.false_alarms))
        print(f"seed {row['seed']}: {uncertainty.line(members[-1])}", flush=True)
        first = classifier if len(members) == 1 else first

    content = {
        "dataset": run.metrics["dataset"],
        "model": run.metrics["model"],
        "config": {**results.config(args), "run": run.folder.name, "weights": args.weights.name},
        "environment": environment,
        "runs": {run.folder.name: run.metrics["config"]},
        **uncertainty.summary(run, members),
    }

    def fill(scratch: Path) -> None:
        uncertainty.draw(scratch, args.figure_format, members, dataset.test.labels, warning(args))
        run_folder.write_json(scratch / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    save_classifier(args.weights, first.cpu(), make_card(run, members[0], args.false_alarms))
    print(uncertainty.table(content))
    print(f"wrote {args.weights}")
    print(f"wrote {args.output}")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, preset="release")
    group = parser.add_argument_group("release")
    group.add_argument(
        "--run",
        type=Path,
        default=Path("plots/cnn-best"),
        metavar="DIR",
        help="folder of the trained run",
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="to write (default: weights/<run>.safetensors)"
    )
    group.add_argument(
        "--false-alarms",
        type=share,
        default=0.01,
        help="share of the validation images that may be called unlike the training cells",
    )
    args = parse(parser)
    args.weights = args.weights or ROOT / "weights" / f"{args.run.name}.safetensors"
    if args.weights.suffix != ".safetensors":
        raise UserError(f"--weights {args.weights}: the name must end in .safetensors")
    return args


def check(run: SavedRun, dataset: dict) -> None:
    """Raises `UserError` for a run that cannot be released."""
    from bloodcells.inference.classifier import VIEWS

    metrics = run.metrics
    if metrics["model"]["name"] != "CellNet" or metrics["config"].get("protocol") != "official":
        raise UserError(f"--run {run.folder}: only CellNet of the official protocol is released")
    if not all(row.get("weights") for row in metrics["runs"]):
        raise UserError(f"--run {run.folder}: it kept no weights; train it with --save-weights")
    if metrics["config"]["views"] not in VIEWS:
        raise UserError(f"--run {run.folder}: scored with --views other than 1 and 8")
    if metrics["dataset"] != dataset:
        raise UserError(f"--run {run.folder}: it was trained on other data than {dataset['name']}")


def load_member(run: SavedRun, name: str, train: Split, device) -> Classifier:
    """A seed's network, rounded to float16, and where its training cells lie."""
    import torch

    from bloodcells.data import bloodmnist
    from bloodcells.inference.classifier import Classifier, features, space_of
    from bloodcells.tracking import run_folder

    network = run_folder.network(run, name).half().float()
    network.to(device, memory_format=torch.channels_last)
    images, labels = bloodmnist.to_device(train, device)
    centres, whitening = space_of(features(network, images), labels.cpu())
    return Classifier(network, centres, whitening).eval().to(device)


def make_card(run: SavedRun, member: dict, false_alarms: float) -> dict:
    """What `predict.py` must know of the weights, and where they come from."""
    from bloodcells.data.bloodmnist import CLASS_NAMES

    metrics = run.metrics
    return {
        "model": "CellNet",
        "widths": metrics["config"].get("widths"),
        "parameters": metrics["model"]["parameters"],
        "classes": list(CLASS_NAMES),
        "size": metrics["config"]["size"],
        "normalisation": "pixel / 127.5 - 1",
        "calibration": {
            str(views): {"temperature": part["temperature"], "sets": part["sets"]}
            for views, part in member["views"].items()
        },
        "farthest": member["farthest"],
        "false_alarms": false_alarms,
        "training": {
            "run": run.folder.name,
            "seed": metrics["runs"][0]["seed"],
            "git_commit": metrics["environment"]["git_commit"],
            "dataset": metrics["dataset"],
            "config": metrics["config"],
        },
    }


if __name__ == "__main__":
    run_script(main)
