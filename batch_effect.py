"""Batch effect: leave the second batch of BloodMNIST out of training, and test on it.

    python batch_effect.py --overwrite                               # cnn-fast-60
    python batch_effect.py --config batch-effect-paper --overwrite   # the paper's CNN
    python batch_effect.py --config batch-effect-robust --overwrite  # cnn-robust, in a smaller size

453 of the images are of a second batch, with another background (docs/data.md). For each seed one
model is trained without them, and one with as many images of each class, some of the first batch
replaced by the second's. Scored are the test split and the second batch, without what was trained
on. The replaced images are the same for every seed. Writes metrics.json, batch_predictions.npz and
a figure. Nothing is chosen on these scores.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.studies import parse_batch_effect

if __name__ == "__main__":
    run_script(parse_batch_effect, __file__)  # --help ends before torch loads; main parses again

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from bloodcells.cli.arguments import data_settings, settings_of, warning
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Dataset, Pool
from bloodcells.data.folds import make_folds
from bloodcells.evaluation import batch_effect
from bloodcells.evaluation.prediction import final_predictions, score
from bloodcells.reporting.figures import studies as figures
from bloodcells.reporting.tables.batch_effect import summary_of
from bloodcells.tracking import run_folder
from bloodcells.training.device import choose_device, choose_precision
from bloodcells.training.session import Session, open_session
from model_cnn import build, set_up, train_epoch


def main() -> None:
    """Train every seed's model without and with the second batch, and compare them on it."""
    args = parse_batch_effect(__file__)
    device = choose_device(args.device, args.threads)
    args.precision = choose_precision(args.precision, device)
    recipe = Recipe.of(args)
    dataset = bloodmnist.load(**data_settings(args))
    pool, second = Pool(*dataset.splits().values()), batch_effect.second_batch(dataset)
    _, seeds = make_folds(args.protocol, dataset, args.folds, args.runs, args.seed)
    arms = batch_effect.make_arms(pool.labels, second, seeds[0].train, args.seed)
    val = cast(np.ndarray, seeds[0].held_out)
    val = val[~second[val]]  # the second batch is scored, so no epoch's row may show it
    folds = [
        replace(fold, train=rows, held_out=val, variant=name)
        for fold in seeds
        for name, rows in zip(("without", "with"), arms, strict=True)
    ]
    tested = np.flatnonzero(second | (np.arange(len(pool)) >= len(pool) - len(dataset.test)))

    with open_session(args, dataset, folds, build(args), device) as session:
        images = pool.to(device)
        for fold in session.unfinished():
            print(f"{fold.variant} the second batch, seed {fold.seed}")
            train, held_out = images.choose(fold.train), images.choose(fold.held_out)
            training = set_up(args, recipe, fold, train)
            model = training[0]
            epochs_done = session.restore(fold, *training)
            for epoch in range(epochs_done + 1, recipe.epochs + 1):
                row = train_epoch(*training, recipe)
                row |= score(model, held_out, recipe)
                session.save(epoch, row)
            predictions = final_predictions(model, held_out, images.choose(tested), recipe)
            session.finish(fold, model, predictions)
        if session.complete():
            save(args, dataset, session, tested, second[tested], np.isin(tested, arms.with_both))


def save(
    args: Namespace,
    dataset: Dataset,
    session: Session,
    tested: np.ndarray,
    second: np.ndarray,
    trained: np.ndarray,
) -> None:
    """Write the results, and print them.

    `tested` are the rows that were predicted, in the three splits one after another, `second` says
    which are of the second batch, and `trained` which the models with that batch were trained on.
    """
    labels = Pool(*dataset.splits().values()).labels[tested]
    probabilities = np.stack([cast(np.ndarray, run.test_probabilities) for run in session.runs])
    answers = probabilities.argmax(2)
    arms = batch_effect.Arms(answers[::2], answers[1::2])  # in the folds' order
    found = batch_effect.scores(labels, arms, second, trained, dataset.classes)
    content = {
        "dataset": dataset.describe(),
        "config": settings_of(args),
        "code": args.code.describe(),
        "environment": session.environment,
        "runs": [
            {"name": run.name, "train_seconds": run.train_seconds, **run.history[-1]}
            for run in session.runs
        ],
        "scores": found,
    }

    def fill(folder: Path) -> None:
        path = folder / f"batch_recall.{args.figure_format}"
        figures.batch_recall(path, found["recalls"], warning(args))
        np.savez_compressed(
            folder / "batch_predictions.npz",
            probabilities=probabilities, labels=labels, rows=tested, second=second, trained=trained,
        )  # fmt: skip
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    print(summary_of(found))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    run_script(main)
