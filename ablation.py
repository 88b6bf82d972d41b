"""Change a recipe in one thing at a time: what does each part give, and what does it cost?

    python ablation.py --overwrite         # writes plots/ablation/
    python ablation.py --only no-shift     # one change, beside the whole recipe
    python ablation.py --epochs 4          # of a shorter recipe, in a folder of its own

Every variant is trained on the same folds of train + validation, one fold after the other, and
scored on the held-out fold. The test split is never read. Writes ablation.json and a figure.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from bloodcells.cli.arguments import (
    UserError,
    make_parser,
    parse,
    run_script,
    warning,
    whole_number,
)
from bloodcells.cli.flags import (
    add_model_flags,
    add_recipe_flags,
    add_training_flags,
    add_work_flags,
)

WHOLE = "whole-recipe"
ADAM = {"optimizer": "adam", "filter_lr": 0.05, "weight_decay": 0.0}
VARIANTS: dict[str, dict] = {  # the settings in which a variant departs from the recipe
    WHOLE: {},
    "no-focus-on-hard-images": {"focus": 0.0},
    "no-turning-or-mirroring": {"dihedral": False},
    "no-shift": {"shift": 0},
    "no-label-smoothing": {"label_smoothing": 0.0},
    "constant-rate": {"schedule": "constant"},
    "batches-of-128": {"batch_size": 128},
    "adam-alone": ADAM,
    "cutout-8": {"cutout": 8},
    "network-of-the-paper": {"model": "ConvNet", "widths": None, **ADAM, "lr": 1e-3},
}


def main() -> None:
    parser = make_parser(__doc__, preset="ablation")
    add_training_flags(parser)
    add_work_flags(parser, spread=False)
    add_recipe_flags(parser)
    add_model_flags(parser)
    parser.add_argument(
        "--replicates", type=whole_number(2, 20), default=3, help="folds to train on, of --folds"
    )
    parser.add_argument("--only", choices=VARIANTS, help="train this one and the whole recipe")
    args = parse(parser)
    if args.protocol != "cross-validation":
        raise UserError(f"--protocol {args.protocol}: only cross-validation leaves the test out")
    if args.replicates > args.folds:
        raise UserError(f"--replicates {args.replicates}: there are but {args.folds} folds")

    from bloodcells.data import bloodmnist, folds
    from bloodcells.tracking import run_folder
    from bloodcells.training import interruption, loop, session

    device = loop.choose_device(args.device)
    args.precision = loop.choose_precision(args.precision, device)
    variants = make_variants(args)
    environment = run_folder.environment(device.type)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    pool, plans = folds.plan(args.protocol, dataset, args.folds, args.runs, args.seed)

    chosen = plans[: args.replicates]
    names = [f"{name}-{plan.name}" for name in variants for plan in chosen]
    whole = variants[WHOLE][0]()
    work = session.open_work(args, names, dataset, whole, device, result="ablation.json")
    if work is None:
        return
    runs = {name: [] for name in variants}
    with work:
        with session.stoppable(device), interruption.ending_after_the_batch():
            for plan in chosen:
                held_out = pool, [replace(plan, scored=False)]  # on the held-out images alone
                for name, (build, recipe) in variants.items():
                    print(f"{name}, fold {plan.fold}")
                    settings = build, dataset, held_out, recipe, device, work, f"{name}-"
                    runs[name] += folds.train_all(*settings)
        with work.turn:
            rows = [row(name, runs) for name in variants]
            save(args, dataset.describe(), environment, rows)
            work.end()


def make_variants(args: argparse.Namespace) -> dict[str, tuple]:
    """The network's builder and the recipe of each variant; one that changes nothing is left out.

    All are made before any is trained, so that a wrong setting shows at once.
    """
    import models
    from bloodcells.cli.recipe import Recipe

    variants = {}
    for name in VARIANTS if args.only is None else dict.fromkeys((WHOLE, args.only)):
        changed = argparse.Namespace(**{**vars(args), **VARIANTS[name]})
        if name != WHOLE and changed == args:
            print(f"{name}: the recipe is so already")
            continue
        build = partial(models.build, changed.model, changed.size, changed.widths, changed.dropout)
        build()
        variants[name] = build, Recipe.of(changed)
    return variants


def row(name: str, runs: dict[str, list]) -> dict:
    """A variant's held-out scores, a value a fold, beside the whole recipe's.

    `mcnemar` counts over all folds' held-out images: only this variant right, only the whole.
    """
    import numpy as np

    from bloodcells.evaluation.metrics import mcnemar

    mine, whole = runs[name], runs[WHOLE]
    labels = np.concatenate([run.val_labels for run in mine])
    ours, theirs = (
        np.concatenate([run.val_probabilities.argmax(1) for run in part]) for part in (mine, whole)
    )
    pairs = list(zip(mine, whole, strict=True))
    return {
        "name": name.replace("-", " "),
        "changes": VARIANTS[name],
        "accuracy": [accuracy(run) for run in mine],
        "accuracy_one_view": [run.history[-1]["val_accuracy"] for run in mine],
        "change": [accuracy(run) - accuracy(base) for run, base in pairs],
        "mcnemar": mcnemar(labels, ours, theirs),
        "train_seconds": [run.train_seconds for run in mine],
        "time_ratio": [run.train_seconds / base.train_seconds for run, base in pairs],
    }


def accuracy(run) -> float:
    return float((run.val_probabilities.argmax(1) == run.val_labels).mean())


def save(args: argparse.Namespace, dataset: dict, environment: dict, rows: list[dict]) -> None:
    """Write ablation.json and its figure, and print the table."""
    from bloodcells.reporting import results
    from bloodcells.reporting.figures import studies as study_figures
    from bloodcells.reporting.tables.studies import ablation_rows
    from bloodcells.tracking import run_folder

    content = {
        "dataset": dataset,
        "config": results.config(args),
        "environment": environment,
        "variants": rows,
    }

    def fill(folder: Path) -> None:
        study_figures.ablation(folder / f"ablation.{args.figure_format}", rows, warning(args))
        run_folder.write_json(folder / "ablation.json", content)

    run_folder.write(args.output, fill, last="ablation.json")
    print("\n".join(ablation_rows(rows)))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    run_script(main)
