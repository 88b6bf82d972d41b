"""The table of the paper's hyper-parameter search, as Markdown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mean_and_deviation
from bloodcells.reporting.studies import STUDIES
from bloodcells.reporting.tables.cells import deviation, machine, table
from bloodcells.reporting.tables.reading import older_code, read_study

# Hobelsberger et al.'s held-out accuracies: of the best combination, (batch size, learning
# rate, epochs), and the range of those with the other two learning rates
PUBLISHED_BEST = (128, 0.001, 50), 0.915
PUBLISHED_LOW = (0.01, 0.1), (0.18, 0.43)


def search(plots: Path) -> str:
    """The paper's grid, our results beside published ones. Raises `UserError` if ours are unfit."""
    found = read_study(plots, "tuning")
    rows: dict[tuple, dict[int, dict]] = {}
    for cell in found["cells"]:
        settings = cell["settings"]
        row = rows.setdefault((settings["lr"], settings["batch_size"]), {})
        row[settings["epochs"]] = cell
    lengths = sorted(found["config"]["space"]["epochs"])
    if any(sorted(row) != lengths for row in rows.values()):
        raise UserError(
            f"{plots / 'tuning'}: some combinations are missing; run {STUDIES['tuning'].command}"
        )
    at_most = [f"accuracy, at most {epochs} epochs" for epochs in lengths]
    heads = ["learning rate", "batch size", *at_most, "epochs trained, by fold", "published"]
    lines = []
    for (rate, batch), row in sorted(rows.items()):
        trained = row[lengths[-1]]["epochs"]
        cells = [
            f"{rate:g}",
            str(batch),
            *(held_out(row[epochs], found["models_a_trial"]) for epochs in lengths),
            ", ".join(map(str, trained)),
            published(batch, rate),
        ]
        lines.append(cells)
    return f"{table(heads, lines)}\n\n{words(found)}"


def held_out(cell: dict, models: int) -> str:
    """Mean ± standard deviation over folds, and their number if the rest were pruned."""
    values = cell["accuracy"]
    if cell["failed"]:
        return f"not trained: {cell['failed']}"
    if cell["diverged"]:
        return "diverged"
    pruned = "" if len(values) == models else f" ({len(values)} of {models} folds)"
    return deviation(mean_and_deviation(values), 3) + pruned


def published(batch: int, rate: float) -> str:
    """What the paper says of a row's cells."""
    (best_batch, best_rate, epochs), accuracy = PUBLISHED_BEST
    rates, (low, high) = PUBLISHED_LOW
    if (batch, rate) == (best_batch, best_rate):
        return f"{accuracy:.3f} at {epochs} epochs (best)"
    return f"{low} to {high}" if rate in rates else ""


def words(found: dict) -> str:
    """What the table shows, how much time was saved, and how that was estimated."""
    config, best = found["config"], found["best"]["settings"]
    return (
        f"Held-out accuracy, mean ± standard deviation over {found['models_a_trial']} folds of "
        "train + validation; the test split is not read. Early stopping ends training when "
        f"the held-out loss has not fallen by {config['threshold']:.0%} in {config['patience']} "
        f"epochs. Best combination: batch size {best['batch_size']}, learning rate "
        f"{best['lr']:g}, at most {best['epochs']} epochs; {as_good(found)} other rows are within "
        "a standard deviation of it. Each row is one trial, scored at both "
        f"numbers of epochs. A row more than {config['prune_margin']:g} behind the best on the "
        f"same folds is pruned: it is not trained on the remaining folds{to_win(found)}. The "
        f"search took {found['seconds'] / 60:.0f} min ({machine(found)}). A full grid, with every "
        "combination trained separately on all folds, would take about "
        f"{found['plain_seconds'] / 60:.0f} min, estimated from the seconds per epoch and the "
        f"epochs per fold of the trained models.{older_code(found)}"
    )


def as_good(found: dict) -> int:
    """How many other rows have a mean within the standard deviation over the best one's folds."""
    best = found["best"]["accuracy"]
    rows = {
        (cell["settings"]["lr"], cell["settings"]["batch_size"])
        for cell in found["cells"]
        if len(cell["accuracy"]) > 1
        and np.mean(best) - np.mean(cell["accuracy"]) <= np.std(best, ddof=1)
    }
    return len(rows) - 1


def to_win(found: dict) -> str:
    """The mean accuracy on the remaining folds with which a pruned row would have won."""
    models, best = found["models_a_trial"], found["best"]["accuracy"]
    needed = [
        (sum(best) - sum(cell["accuracy"])) / (models - len(cell["accuracy"]))
        for cell in found["cells"]
        if 0 < len(cell["accuracy"]) < models and not cell["failed"] and not cell["diverged"]
    ]
    if not needed:
        return ""
    return (
        f"; to win, it would have needed {min(needed):.3f} or more on average on these, and the "
        f"best combination reached at most {max(best):.3f} on any fold"
    )
