"""Show what the released network sees: its errors, labels that look wrong, where it looks.

    python explain.py --overwrite    # writes plots/explain/; trains five models, ten minutes
    python explain.py --folds 3      # in a folder of its own

The errors are of the test split, each beside the training cells nearest to it in the network's
features. Labels of train + validation are suspect where a model of which the image was held out
gives another answer. The maps are illustrations: see the check that they change with the weights.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcells.cli.arguments import UserError, make_parser, parse, run_script, warning
from bloodcells.cli.flags import (
    add_model_flags,
    add_recipe_flags,
    add_training_flags,
    add_work_flags,
)

if TYPE_CHECKING:  # torch takes seconds to load
    import numpy as np
    import torch

    from bloodcells.data.bloodmnist import Dataset, Pool, Split
    from bloodcells.data.folds import Plan, Run
    from bloodcells.inference.classifier import Classifier

SHOWN, NEIGHBOURS = 8, 5  # errors, and training cells beside each
SUSPECTS = 40  # labels in the figure; the table has all


def main() -> None:
    args = parse_arguments()

    import models
    from bloodcells.cli.recipe import Recipe
    from bloodcells.data import bloodmnist, folds
    from bloodcells.inference.classifier import load_classifier, md5_of
    from bloodcells.tracking import run_folder
    from bloodcells.training import interruption, loop, session

    device = loop.choose_device(args.device)
    args.precision = loop.choose_precision(args.precision, device)
    path = run_folder.find(args.released)
    model = load_classifier(path, 1, device, flag="--released")
    md5 = md5_of(path.read_bytes())
    if model.size != args.size:
        raise UserError(f"--size {args.size}: the weights {path} are for {model.size} px")
    build = partial(models.build, args.model, args.size, args.widths, args.dropout)
    network = build()  # a wrong setting shows at once
    environment = run_folder.environment(device.type)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    pool, plans = folds.plan(args.protocol, dataset, args.folds, args.runs, args.seed)
    plans = [replace(plan, scored=False) for plan in plans]  # for these, test is not read
    work = session.open_work(args, [plan.name for plan in plans], dataset, network, device)
    if work is None:
        return
    with work:
        with session.stoppable(device), interruption.ending_after_the_batch():
            settings = build, dataset, (pool, plans), Recipe.of(args), device, work
            runs = folds.train_all(*settings)
        suspects = suspect_labels(dataset, pool, plans, runs)
        with work.turn:
            save(args, dataset, model.classifier, md5, suspects, environment, device)
            work.end()


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, preset="explain")
    add_training_flags(parser)
    add_work_flags(parser, spread=False)
    add_recipe_flags(parser)
    add_model_flags(parser)
    parser.add_argument(
        "--released",
        type=Path,
        default=Path("weights/cnn-best.safetensors"),
        metavar="FILE",
        help="released weights to look into",
    )
    args = parse(parser)
    if args.protocol != "cross-validation":
        raise UserError(f"--protocol {args.protocol}: every label is to be held out once")
    return args


def save(
    args: argparse.Namespace,
    dataset: Dataset,
    classifier: Classifier,
    md5: str,
    suspects: list[dict],
    environment: dict,
    device: torch.device,
) -> None:
    """Look into the released network, and write the folder `args.output`."""
    from bloodcells.evaluation import class_activation
    from bloodcells.reporting import results
    from bloodcells.reporting.figures import explanations as explanation_figures
    from bloodcells.tracking import run_folder

    wrong = errors(classifier, dataset, device)
    rows = one_a_class(dataset.test)
    maps = class_activation.activation_maps(
        classifier.network, dataset.test, rows, device, args.seed
    )
    content = {
        "dataset": dataset.describe(),
        "config": results.config(args) | {"released": args.released.name},
        "environment": environment,
        "released_md5": md5,
        "errors": {"split": "test", "rows": wrong},
        "suspect_labels": {"split": "train and val, held out", "rows": suspects},
        "activation_maps": {"split": "test", "rows": [row["index"] for row in maps],
                            "correlation_with_shuffled_weights": [r["correlation"] for r in maps]},
    }  # fmt: skip

    def fill(folder: Path) -> None:
        def figure(name: str) -> Path:
            return folder / f"{name}.{args.figure_format}"

        mark = warning(args)
        explanation_figures.errors(figure("errors"), wrong, dataset, mark)
        explanation_figures.suspects(figure("suspect_labels"), suspects[:SUSPECTS], dataset, mark)
        explanation_figures.maps(figure("activation_maps"), maps, dataset.test, mark)
        columns = ["split", "index", "label", "predicted", "probability_of_label"]
        lines = [[row[column] for column in columns] for row in suspects]
        run_folder.write_csv(folder / "suspect_labels.csv", [columns, *lines])
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    print(f"{len(suspects)} labels of train + validation that held-out models contradict")
    print(f"wrote {args.output}")


def errors(classifier: Classifier, dataset: Dataset, device: torch.device) -> list[dict]:
    """The most confident errors on test, with the training cells nearest to each."""
    import numpy as np
    import torch

    from bloodcells.inference.classifier import features

    train, test = (torch.from_numpy(part.images) for part in (dataset.train, dataset.test))
    probabilities = classifier.predict(test.to(device))[0].numpy()
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != dataset.test.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    whitened = (  # in this space the classes' spread is a unit ball
        features(classifier.network, images.to(device)) @ classifier.whitening.cpu()
        for images in (test[worst], train)
    )
    nearest = torch.cdist(*whitened).topk(NEIGHBOURS, largest=False).indices.tolist()
    return [
        {
            "index": int(index),
            "label": int(dataset.test.labels[index]),
            "predicted": int(predicted[index]),
            "probability": float(confidence[index]),
            "neighbours": rows,
        }
        for index, rows in zip(worst, nearest, strict=True)
    ]


def suspect_labels(dataset: Dataset, pool: Pool, plans: list[Plan], runs: list[Run]) -> list[dict]:
    """Labels of train and validation that held-out models contradict, the least probable first.

    Every image is judged by the model of the fold that held it out, and ranked by the probability
    of its label: the self-confidence of Northcutt et al., "Confident Learning" (2021).
    """
    import numpy as np

    probabilities = np.empty((len(pool), runs[0].val_probabilities.shape[1]), np.float32)
    for plan, run in zip(plans, runs, strict=True):
        probabilities[plan.held_out] = run.val_probabilities
    predicted = probabilities.argmax(1)
    of_label = probabilities[np.arange(len(pool)), pool.labels]
    order = np.argsort(of_label, kind="stable")
    return [
        {
            "split": "train" if row < len(dataset.train) else "val",
            "index": int(row if row < len(dataset.train) else row - len(dataset.train)),
            "label": int(pool.labels[row]),
            "predicted": int(predicted[row]),
            "probability_of_label": float(of_label[row]),
        }
        for row in order[(predicted != pool.labels)[order]]
    ]


def one_a_class(split: Split) -> np.ndarray:
    """The row of the first image of each class."""
    import numpy as np

    return np.array([np.flatnonzero(split.labels == label)[0] for label in np.unique(split.labels)])


if __name__ == "__main__":
    run_script(main)
