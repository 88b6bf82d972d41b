"""What a finished search leaves: trials.csv, best.toml, metrics.json and figures."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import optuna

import run_folder
import search_figures
import study_store
from command_line import UserError, warning
from tuning import Choice, Search

# settings of the search itself, which model_cnn.py does not know, and those of a machine
NOT_TRAINING = {
    *("search", "trials", "objective", "patience", "threshold", "prune", "prune_margin"),
    *("storage", "space", "config", "output", "data_root", "started", "save_weights"),
}


def save(
    args: argparse.Namespace, dataset: dict, environment: dict, search: Search, study: optuna.Study
) -> None:
    """Write the folder `args.output` and print the best trials.

    Raises `UserError` if no trial came to a result.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if study_store.is_done(trial)]
    cells = [cell for trial in trials for cell in search.cells(trial)]
    complete = [cell for cell in cells if cell["complete"]]
    if not complete:
        reasons = {cell["failed"] for cell in cells}
        raise UserError(f"no trial came to a result: {'; '.join(map(str, reasons))}")
    best = max(complete, key=lambda cell: cell["score"])
    content = {
        "dataset": dataset,
        "config": {k: v for k, v in sorted(vars(args).items()) if k not in UNSAVED},
        "environment": environment,
        "models_a_trial": len(search.plans),
        "cells": cells,
        "best": best,
        "seconds": sum(
            float(fold["seconds"]) for t in trials for fold in t.user_attrs.get("folds", [])
        ),
        "plain_seconds": plain_seconds(cells, trials, len(search.plans)),
        "importances": importances(study),
    }
    by_number = {trial.number: trial for trial in trials}

    def fill(folder: Path) -> None:
        def path(name: str) -> Path:
            return folder / f"{name}.{args.figure_format}"

        mark = warning(args)
        run_folder.write_csv(folder / "trials.csv", csv_rows(cells))
        run_folder.write_toml(folder / "best.toml", best_settings(args, search, best, by_number))
        search_figures.history(path("history"), cells, args.objective, mark)
        if len(content["importances"]) > 1:
            search_figures.importances(path("importances"), content["importances"], mark)
        worst = min(complete, key=lambda cell: cell["score"])
        named = (
            {"best": best, "worst": worst} if worst["trial"] != best["trial"] else {"best": best}
        )
        curves = {
            f"{name}: {describe(cell)}": by_number[cell["trial"]].user_attrs["folds"]
            for name, cell in named.items()
        }
        search_figures.learning_curves(path("learning_curves"), curves, mark)
        axes = [name for name, part in search.space.items() if isinstance(part, Choice)]
        if args.search == "grid" and {"batch_size", "lr", "epochs"} == set(axes):
            search_figures.heat_maps(path("heat_maps"), cells, mark)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    print(table(cells, args.objective))
    print(f"wrote {args.output}")


UNSAVED = {"config", "output", "data_root", "started", "storage"}


def best_settings(args, search: Search, best: dict, by_number: dict) -> dict:
    """The best cell as a preset of model_cnn.py; as many epochs as its folds trained, in median."""
    settings = vars(search.settings(by_number[best["trial"]]))
    epochs = int(np.median(best["epochs"]))
    kept = {k: v for k, v in sorted(settings.items()) if k not in NOT_TRAINING}
    idle = "folds" if args.protocol == "official" else "runs"
    return {k: v for k, v in {**kept, "epochs": epochs}.items() if k != idle}


def plain_seconds(cells: list[dict], trials: list, models: int) -> float:
    """Estimated seconds of the plain search: each cell by itself, and all of its models.

    Each cell's own seconds an epoch times the epochs that its models take; for models that were
    pruned away, the mean of its others.
    """
    folds = {trial.number: trial.user_attrs.get("folds", []) for trial in trials}
    total = 0.0
    for cell in cells:
        if cell["epochs"]:
            epochs = sum(len(fold["val_loss"]) for fold in folds[cell["trial"]])
            total += cell["seconds"] / max(epochs, 1) * np.mean(cell["epochs"]) * models
    return float(total)


def importances(study: optuna.Study) -> dict[str, float]:
    """Optuna's importance of each parameter; empty where it can't be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {k: float(v) for k, v in optuna.importance.get_param_importances(study).items()}
    except (ValueError, RuntimeError):  # a single trial, or all alike
        return {}


def csv_rows(cells: list[dict]) -> list[list]:
    """A header and a row a cell."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["settings"]))
    rows = [["trial", *names, "accuracy", "std", "models", "epochs_trained", "seconds", "state"]]
    for cell in cells:
        state = "complete" if cell["complete"] else "failed" if cell["failed"] else "pruned"
        values = [cell["settings"].get(name) for name in names]
        accuracy, std = spread(cell["accuracy"])
        trained = " ".join(map(str, cell["epochs"]))
        row = [cell["trial"], *values, accuracy, std, len(cell["accuracy"]), trained]
        rows.append([*row, round(cell["seconds"], 1), state])
    return rows


def spread(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation, where there are values for them."""
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def describe(cell: dict) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in cell["settings"].items()
    )


def table(cells: list[dict], objective: str) -> str:
    """The ten best cells for the console."""
    ranked = sorted((cell for cell in cells if cell["complete"]), key=lambda cell: -cell["score"])
    lines = [f"the best by held-out {objective}:"]
    for cell in ranked[:10]:
        mean, std = spread(cell["accuracy"])
        deviation = "" if std is None else f" +- {std:.4f}"
        lines.append(f"  accuracy {mean:.4f}{deviation}  {describe(cell)}")
    return "\n".join(lines)
