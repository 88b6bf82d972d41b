"""The errors of the best recipe by stage of maturation, as Markdown."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import CLASS_OF, read_table
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import wilson_interval
from bloodcells.reporting.tables.common import mark, read_run

RUN = "cnn-best"
NEIGHBOURS = {  # the stages on both sides of a class's border, and the class beyond it
    "metamyelocyte": "neutrophil",
    "band neutrophil": "immature granulocyte",
}


def stage_errors(plots: Path) -> list[dict]:
    """For each stage: its test images, their mean error rate, and what they were taken for."""
    run, sources = read_run(plots, RUN), read_table()["test"]
    if len(sources) != len(run.labels):
        raise UserError(f"{run.folder}: not of the official test images, whose stages are known")
    stages = np.array([one.stage for one in sources])
    predicted = run.probabilities.argmax(2)
    rows = []
    for stage in CLASS_OF:
        here = stages == stage
        wrong = predicted[:, here][predicted[:, here] != run.labels[here]]
        taken = np.bincount(wrong, minlength=len(CLASS_NAMES))
        rows.append(
            {
                "stage": stage,
                "images": int(here.sum()),
                "error": len(wrong) / predicted[:, here].size,
                "errors": len(wrong),
                "taken_for": {
                    CLASS_NAMES[label]: int(taken[label])
                    for label in np.argsort(-taken, kind="stable")
                    if taken[label]
                },
            }
        )
    return rows


def errors(plots: Path) -> str:
    """The table of `stage_errors`, and what else is known of the errors."""
    run, rows = read_run(plots, RUN), stage_errors(plots)
    models, total = len(run.probabilities), sum(row["errors"] for row in rows)
    lines = [
        "| stage | test images | error rate [95 % interval] | share of all errors | taken for |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = wilson_interval(row["error"] * row["images"], row["images"])
        taken = ", ".join(
            f"{name} {count / row['errors']:.0%}" for name, count in row["taken_for"].items()
        )
        lines.append(
            f"| {row['stage']} | {row['images']} | {row['error']:.1%} [{low:.1%}, {high:.1%}] | "
            f"{row['errors'] / total:.1%} | {taken} |"
        )
    wrong = run.probabilities.argmax(2) != run.labels
    across = sum(row["taken_for"].get(NEIGHBOURS.get(row["stage"], ""), 0) for row in rows)
    suspects = np.isin(np.arange(len(run.labels)), suspect_rows(plots))
    twins = np.array([one.twin for one in read_table()["test"]])
    return "\n".join(
        [
            *lines,
            "",
            f"`{RUN}`, eight views, mean over {models} models [Wilson interval over the stage's "
            f"images]. Accuracy {1 - wrong.mean():.4f}; if metamyelocytes taken for neutrophils "
            "and band neutrophils taken for immature granulocytes, neighbours on one line of "
            f"maturation, counted as right: {1 - (wrong.sum() - across) / wrong.size:.4f}. The "
            f"{suspects.sum()} test images with suspect labels make {share(wrong, suspects)} of "
            f"the errors, the {twins.sum()} whose photograph is in the collection twice "
            f"{share(wrong, twins)}.{mark(run.metrics)}",
        ]
    )


def suspect_rows(plots: Path) -> list[int]:
    """The test images whose labels explain.py suspects. Raises `UserError`."""
    path = plots / "explain" / "suspect_labels.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [int(row["index"]) for row in csv.DictReader(file) if row["split"] == "test"]
    except OSError as error:
        raise UserError(f"{path}: cannot be read; run python explain.py") from error


def share(wrong: np.ndarray, images: np.ndarray) -> str:
    """The share of the errors, (models, N), that some images, bool (N,), make."""
    return f"{wrong[:, images].sum() / wrong.sum():.0%}"
