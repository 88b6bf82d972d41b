"""Ablation study: change one part of a recipe at a time; measure what it gains and costs.

    python ablation.py --overwrite         # writes plots/ablation/
    python ablation.py --only no-shift     # one variant, and the whole recipe
    python ablation.py --epochs 4          # a shorter recipe, in its own folder
    python ablation.py --config ablation-robust --elsewhere wbc/ --overwrite  # what cnn-robust does

Every variant is trained on the same folds of train + validation, one fold after another, and scored
on the held-out fold. A recipe with domain randomisation is also scored on corrupted held-out images
and, with --elsewhere, on those of another laboratory, in folders named after their classes. The
test split is never read. Writes ablation.json and a figure.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.studies import parse_ablation

if __name__ == "__main__":
    run_script(parse_ablation, __file__)  # --help ends before torch loads; main parses again

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from bloodcells.cli.arguments import data_settings, settings_of, warning
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Labelled, Split
from bloodcells.data.folds import make_folds
from bloodcells.errors import UserError
from bloodcells.evaluation import elsewhere, unseen
from bloodcells.evaluation.metrics import mcnemar
from bloodcells.evaluation.prediction import final_predictions, score
from bloodcells.reporting.figures import studies as figures
from bloodcells.reporting.tables.studies import ablation_table
from bloodcells.tracking import run_folder
from bloodcells.training.device import choose_device, choose_precision
from bloodcells.training.record import Run
from bloodcells.training.refusals import refuse_idle_randomisation
from bloodcells.training.session import open_session
from model_cnn import build, set_up, train_epoch

WHOLE = "whole-recipe"
ADAM = {"optimizer": "adam", "filter_lr": 0.05, "weight_decay": 0.0}
VARIANTS: dict[str, dict] = {  # the settings that each variant changes
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
OF_RANDOMISATION: dict[str, dict] = {  # the same, of a recipe with domain randomisation
    WHOLE: {},
    "no-randomisation": {"domain_randomisation": 0.0, "unchanged": "none"},
    "nine-in-ten-randomised": {"domain_randomisation": 0.9},  # focus needs some unchanged images
    "colour-unchanged": {"unchanged": "colour"},
    "geometry-unchanged": {"unchanged": "geometry"},
    "sharpness-unchanged": {"unchanged": "sharpness"},
    "no-dirt-or-noise": {"unchanged": "dirt"},
    "network-of-cnn-best": {"model": "CellNet"},
}
NETWORK = ("model", "widths", "dropout")  # settings of it
CORRUPTED = 150  # held-out images of each fold that are corrupted


def main() -> None:
    """Train every variant on the same folds, and compare their held-out scores."""
    args = parse_ablation(__file__)
    device = choose_device(args.device, args.threads)
    args.precision = choose_precision(args.precision, device)
    changes = OF_RANDOMISATION if args.domain_randomisation else VARIANTS
    variants = make_variants(args, changes)
    recipes = {name: Recipe.of(changed) for name, changed in variants.items()}
    foreign = elsewhere.read(args.elsewhere, args.size).images if args.elsewhere else None
    dataset = bloodmnist.load(**data_settings(args))
    pool, folds = make_folds(args.protocol, dataset, args.folds, args.runs, args.seed)
    folds = [  # scored on held-out images only
        replace(fold, scored=False, variant=name)
        for fold in folds[: args.replicates]
        for name in variants
    ]
    network = build(variants[WHOLE])
    epochs = [recipes[fold.variant].epochs for fold in folds]

    with open_session(
        args, dataset, folds, network, device, result="ablation.json", epochs=epochs
    ) as session:
        images = pool.to(device)
        for fold in session.unfinished():
            print(f"{fold.variant}, fold {fold.fold}")
            recipe = recipes[fold.variant]
            train, held_out = images.choose(fold.train), images.choose(fold.held_out)
            training = set_up(variants[fold.variant], recipe, fold, train)
            model = training[0]
            epochs_done = session.restore(fold, *training)
            for epoch in range(epochs_done + 1, recipe.epochs + 1):
                row = train_epoch(*training, recipe)
                row |= score(model, held_out, recipe)
                session.save(epoch, row)
            session.finish(fold, model, final_predictions(model, held_out, None, recipe))
        if session.complete():
            runs = {
                name: [r for r, f in zip(session.runs, folds, strict=True) if f.variant == name]
                for name in variants
            }
            rows = [{"changes": changes[name], **variant_row(name, runs)} for name in variants]
            if args.domain_randomisation:
                firsts = [fold for fold in folds if fold.variant == WHOLE]
                parts = [images.choose(cast(np.ndarray, fold.held_out)) for fold in firsts]
                frequencies = dataset.train.class_counts() / len(dataset.train)
                for row, (name, changed) in zip(rows, variants.items(), strict=True):
                    networks = [trained(changed, run, device) for run in runs[name]]
                    row |= unseen_scores(
                        networks, parts, foreign, dataset.classes, frequencies, args
                    )
            save(args, dataset.describe(), session.environment, rows)


def make_variants(args: Namespace, changes: dict[str, dict]) -> dict[str, Namespace]:
    """The settings of each variant; a variant that changes nothing is left out.

    Before anything is trained, raises `UserError` for incompatible settings, an `args.only` that
    changes nothing and names that are unfit for files, and `ValueError` for settings that are
    neither the recipe's nor the network's.
    """
    if args.only not in (None, *changes):
        raise UserError(f"--only {args.only}: the variants are {', '.join(changes)}")
    if wrong := [name for name in changes if not re.fullmatch(r"[\w.-]+", name)]:
        raise UserError(f"variant {wrong[0]!r}: use letters, digits, dots, hyphens, underscores")
    variants = {}
    for name in changes if args.only is None else dict.fromkeys((WHOLE, args.only)):
        if unknown := changes[name].keys() - {*NETWORK, *(one.name for one in fields(Recipe))}:
            raise ValueError(f"{name}: not of the recipe or network: {', '.join(sorted(unknown))}")
        changed = Namespace(**{**vars(args), **changes[name]})
        if name != WHOLE and not changed.focus and changed.schedule != "triangle":
            changed.warmup = Recipe.warmup  # the variant has none
        if name != WHOLE and changed == args:
            if args.only:
                raise UserError(f"--only {name}: it changes nothing in this recipe")
            print(f"{name}: skipped, it changes nothing in this recipe")
            continue
        build(changed)
        refuse_idle_randomisation(changed.domain_randomisation, changed.focus, changed.batch_size)
        variants[name] = changed
    return variants


def variant_row(name: str, runs: dict[str, list[Run]]) -> dict:
    """A variant's held-out scores, one value per fold, and its difference from the whole recipe.

    `mcnemar` compares the two on the held-out images of all folds, this variant first.
    """
    mine, whole = runs[name], runs[WHOLE]
    labels = np.concatenate([run.val_labels for run in mine])
    ours, theirs = (
        np.concatenate([cast(np.ndarray, run.val_probabilities).argmax(1) for run in part])
        for part in (mine, whole)
    )
    pairs = list(zip(mine, whole, strict=True))
    return {
        "name": name.replace("-", " "),
        "accuracy": [accuracy(run) for run in mine],
        "accuracy_one_view": [run.history[-1]["val_accuracy"] for run in mine],
        "change": [accuracy(run) - accuracy(base) for run, base in pairs],
        "mcnemar": mcnemar(labels, ours, theirs),
        "train_seconds": [run.train_seconds for run in mine],
        "time_ratio": [run.train_seconds / base.train_seconds for run, base in pairs],
    }


def trained(args: Namespace, run: Run, device: torch.device) -> nn.Module:
    """The network of a finished run."""
    network = build(args)
    network.load_state_dict(run.weights)
    return network.to(  # type: ignore[call-overload]
        device, memory_format=torch.channels_last
    )


def unseen_scores(
    networks: list[nn.Module],
    held_out: Sequence[Labelled],
    foreign: Split | None,
    names: tuple[str, ...],
    frequencies: np.ndarray,
    args: Namespace,
) -> dict:
    """A variant's accuracy on corrupted held-out images and elsewhere, one value per fold.

    `names` are the classes', `frequencies` their shares of the training images.
    """
    scores: dict = {"corrupted": [], "elsewhere": []}
    for network, part in zip(networks, held_out, strict=True):
        images = Split(part.images[:].cpu().numpy(), part.labels.cpu().numpy(), names)
        sample = images.sample(CORRUPTED, args.seed)
        scores["corrupted"].append(unseen.corrupted_accuracy(network, sample, args.seed))
        if foreign is not None:
            found = unseen.elsewhere_accuracy(network, foreign, frequencies, args.views)
            scores["elsewhere"].append(found)
    return scores


def accuracy(run: Run) -> float:
    """Held-out accuracy of a run."""
    return float((cast(np.ndarray, run.val_probabilities).argmax(1) == run.val_labels).mean())


def save(args: Namespace, dataset: dict, environment: dict, rows: list[dict]) -> None:
    """Write ablation.json and its figure, and print the table."""
    content = {
        "dataset": dataset,
        "config": settings_of(args),
        "code": args.code.describe(),
        "environment": environment,
        "variants": rows,
    }
    if args.domain_randomisation:
        where = args.elsewhere and args.elsewhere.name
        content |= {"corrupted_images": CORRUPTED, "elsewhere": where}

    def fill(folder: Path) -> None:
        figures.ablation(folder / f"ablation.{args.figure_format}", rows, warning(args))
        run_folder.write_json(folder / "ablation.json", content)

    run_folder.write(args.output, fill, last="ablation.json")
    print(ablation_table(rows))
    print(
        f"accuracy in %, mean ± standard deviation over {args.replicates} folds; p: McNemar's test "
        "on the held-out images, corrected for the number of variants (Holm); it covers the choice "
        "of images, not another training"
    )
    print(f"wrote {args.output}")


if __name__ == "__main__":
    run_script(main)
