"""The files of a finished search: trials.csv, best.toml, metrics.json and figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

from bloodcells.cli.arguments import PLACES, warning
from bloodcells.errors import UserError
from bloodcells.reporting.figures import search as search_figures
from bloodcells.search.space import Choice
from bloodcells.search.trials import Search, models_of, plain_seconds, ranked, seconds
from bloodcells.tracking import run_folder
from bloodcells.tracking.files import read_entry

# settings that are not recorded, and those of the search, which model_cnn.py does not have
MACHINE = {*PLACES, "code", "device", "threads", "storage"}
SEARCH = {
    *("search", "trials", "objective", "patience", "threshold", "prune", "prune_margin", "space")
}


def save_search(
    args: argparse.Namespace,
    dataset: dict,
    environments: dict[int, dict],
    search: Search,
    trials: list[FrozenTrial],
    cells: list[dict],
) -> None:
    """Write the folder `args.output` and print the best of the trials' cells.

    `environments` are those of the complete trials, by number.
    Raises `UserError` if no trial produced a result, and for a trial without its models.
    """
    refuse_without_results(cells)
    refuse_fewer_trials(args)
    best = ranked(cells)[0]
    folds = {trial.number: models_of(trial) for trial in trials}
    winner = next(trial for trial in trials if trial.number == best["trial"])
    content = {
        "dataset": dataset,
        "config": {k: v for k, v in sorted(vars(args).items()) if k not in MACHINE},
        "code": args.code.describe(),
        "environment": environments[best["trial"]],
        "models_a_trial": search.models,
        "cells": cells,
        "best": best,
        "seconds": sum(seconds(models) for models in folds.values()),
        "plain_seconds": plain_seconds(cells, folds, search.models),
    }

    def fill(folder: Path) -> None:
        run_folder.write_csv(folder / "trials.csv", csv_rows(cells, folds))
        run_folder.write_toml(folder / "best.toml", best_settings(search, best, winner))
        draw(folder, search, content, folds)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json", stale=["heat_maps"])
    print(table(cells, args.objective))
    print(f"wrote {args.output}")


def refuse_without_results(cells: list[dict]) -> None:
    """Raise `UserError` if no trial produced a result, and for a trial without its models."""
    for cell in cells:
        if cell["complete"] and not cell["accuracy"]:
            raise UserError(
                f"the study is damaged: its trial {cell['trial']} is complete without models; pass "
                "another --output"
            )
    if not ranked(cells):
        reasons = {cell["failed"] or f"{describe(cell)} diverged": None for cell in cells}
        raise UserError(f"no trial produced a result: {'; '.join(reasons)}")


def refuse_fewer_trials(args: argparse.Namespace) -> None:
    """Raise `UserError` if the results there are of more trials, the others of which would go."""
    kept = read_entry(args.output / "metrics.json", "config", "trials")
    if args.trials is not None and isinstance(kept, int) and kept > args.trials:
        raise UserError(
            f"--trials {args.trials}: the results in {args.output} are of {kept}; pass --trials "
            f"{kept}, or more"
        )


def draw(folder: Path, search: Search, content: dict, folds: dict[int, list[dict]]) -> None:
    """Draw the search's figures: heat maps of a grid like the paper's, too."""
    args = search.args

    def path(name: str) -> Path:
        return folder / f"{name}.{args.figure_format}"

    cells, best, watermark = content["cells"], content["best"], warning(args)
    search_figures.history(path("history"), cells, args.objective, watermark)
    scored = (cell for cell in cells if cell["score"] is not None)
    worst = min(scored, key=lambda cell: cell["score"])
    shown = {"best": best} | ({"worst": worst} if worst["trial"] != best["trial"] else {})
    curves = {f"{name}: {describe(cell)}": folds[cell["trial"]] for name, cell in shown.items()}
    search_figures.learning_curves(path("learning_curves"), curves, watermark)
    listed = {name for name, part in search.space.items() if isinstance(part, Choice)}
    if args.search == "grid" and listed == {"batch_size", "lr", "epochs"}:
        covers_all = search.lengths() != [None]
        search_figures.heat_maps(path("heat_maps"), cells, covers_all, watermark)


def best_settings(search: Search, best: dict, trial: FrozenTrial) -> dict:
    """The best cell, one of `trial`, as a preset of model_cnn.py.

    At a constant learning rate without focus, `epochs` is the median number of epochs that its
    models trained before early stopping, which model_cnn.py does not have. Otherwise a training
    that ends there would be another one.
    """
    settings = vars(search.settings(trial))
    if settings["schedule"] == "constant" and not settings["focus"]:
        settings["epochs"] = max(1, int(np.median(best["epochs"])))
    idle = "folds" if settings["protocol"] == "official" else "runs"
    left_out = MACHINE | SEARCH | {idle, "save_weights"}
    return {k: v for k, v in sorted(settings.items()) if k not in left_out}


def csv_rows(cells: list[dict], folds: dict[int, list[dict]]) -> list[list]:
    """A header, then one row per cell; the seconds are those of the whole trial."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["settings"]))
    figures = ["accuracy", "accuracy_std", "loss", "loss_std"]
    rows = [["trial", *names, *figures, "models", "epochs_trained", "trial_seconds", "state"]]
    for cell in cells:
        values = [cell["settings"].get(name) for name in names]
        values += [*spread(cell["accuracy"]), *spread(cell["loss"]), len(cell["accuracy"])]
        epochs = " ".join(map(str, cell["epochs"]))
        took = round(seconds(folds[cell["trial"]]), 1)
        rows.append([cell["trial"], *values, epochs, took, state_of(cell)])
    return rows


def state_of(cell: dict) -> str:
    """How the trial of a cell ended."""
    if cell["diverged"]:
        return "diverged"
    return "complete" if cell["complete"] else "failed" if cell["failed"] else "pruned"


def spread(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; None where there are too few values."""
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def describe(cell: dict) -> str:
    """A cell's settings in words, numbers to three digits."""
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:.3g}' if isinstance(value, float) else value}"
        for name, value in cell["settings"].items()
    )


def table(cells: list[dict], objective: str) -> str:
    """The ten best cells for the console."""
    lines = [f"the best by held-out {objective}:"]
    for cell in ranked(cells)[:10]:
        mean, std = spread(cell[objective])
        deviation = "" if std is None else f" +- {std:.4f}"
        lines.append(f"  {mean:.4f}{deviation}  {describe(cell)}")
    return "\n".join(lines)
