"""Train a recipe without one of its ingredients at a time: what does each give, what does it cost?

    python ablation.py                        # about an hour on two cores
    python ablation.py --only "no shift"      # one variant, beside the whole recipe
    python ablation.py --epochs 4             # of a shorter recipe, in a folder of its own

Each variant is trained on the same folds of train + validation and scored on the held-out fold. The
test split is never read. Writes ablation.json and a figure to plots/ablation/.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from command_line import (
    UserError,
    add_model_flags,
    add_recipe_flags,
    add_training_flags,
    make_parser,
    parse,
    run_script,
    warning,
    whole_number,
)

WHOLE = "whole recipe"
VARIANTS: dict[str, dict] = {  # the settings in which a variant departs from the recipe
    WHOLE: {},
    "no focus on hard images": {"focus": 0.0},
    "Adam in place of Muon": {"optimizer": "adam", "filter_lr": 0.05, "weight_decay": 0.0},
    "constant learning rate": {"schedule": "constant", "warmup": 0.2},
    "no label smoothing": {"label_smoothing": 0.0},
    "no turning or mirroring": {"dihedral": False},
    "no shift": {"shift": 0},
    "cutout of 8 pixels": {"cutout": 8},
    "batches of 256": {"batch_size": 256},
    "the paper's network": {"model": "ConvNet", "widths": None},
}


def main() -> None:
    parser = make_parser(__doc__, preset="ablation")
    add_training_flags(parser)
    add_recipe_flags(parser)
    add_model_flags(parser)
    parser.add_argument(
        "--replicates", type=whole_number(2, 100), default=3, help="of the folds or seeds, train"
    )
    parser.add_argument("--only", choices=VARIANTS, help="train this one and the whole recipe")
    args = parse(parser)
    if args.protocol == "as-published":
        raise UserError("--protocol as-published: its folds hold test images, which choose nothing")

    import bloodmnist
    import protocols
    import results
    import run_folder
    import study_figures
    import training

    device = training.choose_device(args.device)
    args.precision = training.choose_precision(args.precision, device)
    environment = run_folder.environment(device.type)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    pool, plans = protocols.plan(args.protocol, dataset, args.folds, args.replicates, args.seed)
    if args.replicates > len(plans):
        raise UserError(f"--replicates {args.replicates}: there are but {len(plans)} folds")
    plans = pool, [replace(plan, scored=False) for plan in plans[: args.replicates]]

    rows, whole = [], None
    for name in VARIANTS if args.only is None else dict.fromkeys((WHOLE, args.only)):
        print(f"{name}: {VARIANTS[name] or 'as the preset says'}")
        runs = train_variant(args, VARIANTS[name], dataset, plans, device)
        whole = whole or runs  # the first variant
        rows.append({"name": name, "changes": VARIANTS[name], **compare(whole, runs)})
        content = {
            "dataset": dataset.describe(),
            "config": results.config(args),
            "environment": environment,
            "variants": rows,
        }

        def fill(folder: Path, content: dict = content) -> None:
            study_figures.ablation(
                folder / f"ablation.{args.figure_format}", content["variants"], warning(args)
            )
            run_folder.write_json(folder / "ablation.json", content)

        run_folder.write(args.output, fill, last="ablation.json")  # an hour is easily interrupted
    print(table(rows))
    print(f"wrote {args.output}")


def train_variant(args: argparse.Namespace, changes: dict, dataset, plans, device) -> list:
    """The runs of the recipe with some settings changed."""
    import models
    import protocols
    from recipe import Recipe

    changed = argparse.Namespace(**{**vars(args), **changes})
    build = partial(models.build, changed.model, changed.size, changed.widths)
    return protocols.train_all(build, dataset, plans, Recipe.of(changed), device)


def compare(whole: list, runs: list) -> dict:
    """Held-out scores of a variant's runs, a value a run, and the paired test against `whole`."""
    import numpy as np

    import evaluation

    labels, first, second = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (run.val_labels, base.val_probabilities, run.val_probabilities)
                for base, run in zip(whole, runs, strict=True)
            ),
            strict=True,
        )
    )
    return {
        "accuracy": [accuracy(run) for run in runs],
        "accuracy_one_view": [run.history[-1]["val_accuracy"] for run in runs],
        "gain": [accuracy(run) - accuracy(base) for base, run in zip(whole, runs, strict=True)],
        "mcnemar": evaluation.mcnemar(labels, second.argmax(1), first.argmax(1)),
        "train_seconds": [run.train_seconds for run in runs],
        "machine_gflops": [run.machine_gflops for run in runs],
    }


def accuracy(run) -> float:
    return float((run.val_probabilities.argmax(1) == run.val_labels).mean())


def table(rows: list[dict]) -> str:
    """The variants with their means over runs, for the console."""
    lines = [f"{'held-out accuracy, in %':26} {'views':>7} {'one':>7} {'change':>7} {'time':>6}"]
    seconds = sum(rows[0]["train_seconds"])
    for row in rows:
        views, one, gain = (
            100 * sum(row[key]) / len(row[key]) for key in ("accuracy", "accuracy_one_view", "gain")
        )
        lines.append(
            f"{row['name']:26} {views:7.2f} {one:7.2f} {gain:+7.2f} "
            f"{sum(row['train_seconds']) / seconds:6.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
