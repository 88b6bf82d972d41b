"""Tables of how recipes do away from their training images, as Markdown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mean_and_deviation
from bloodcells.reporting.tables.common import mark
from bloodcells.reporting.tables.release import deviation, read_release, read_robustness

RELEASES = {
    "cnn-best": "release-best",
    "cnn-robust": "release",
}  # their presets of model_release.py
VIEWS = "8"


def elsewhere(plots: Path) -> str:
    """The recipes on official, on corrupted and on another laboratory's images."""
    found, robust = read_releases(plots), read_robustness(plots)
    there = {name: study["elsewhere"] for name, study in found.items()}
    scores = {name: part["views"][VIEWS] for name, part in there.items()}
    (where,) = {part["name"] for part in there.values()}
    rows = {
        "official test images: accuracy, one view": [
            deviation(study["views"]["1"]["after"]["accuracy"]) for study in found.values()
        ],
        "eight views": [deviation(s["views"]["8"]["after"]["accuracy"]) for s in found.values()],
        "calibration error (ECE), eight views": [
            deviation(study["views"]["8"]["after"]["ece"]) for study in found.values()
        ],
        "corrupted test images: accuracy, one view": [
            deviation(corrupted_accuracy(robust, name)) for name in found
        ],
        f"`{where}`: balanced accuracy over all classes": column(scores, "balanced_accuracy"),
        "where only its classes can occur": column(scores, "given_classes", "balanced_accuracy"),
        "over all classes, with `--adapt`": column(scores, "adapted"),
        "where only its classes can occur, with `--adapt`": column(scores, "adapted_given_classes"),
        "over all classes, images as frequent as in normal blood": column(scores, "smear"),
        "the same, with `--adapt`": column(scores, "smear_adapted"),
        "calibration error (ECE)": column(scores, "ece"),
        "area under the risk-coverage curve (AURC)": column(scores, "aurc"),
        "95 % prediction sets: coverage": column(scores, "sets", "0.95", "coverage"),
        "their mean number of classes": column(scores, "sets", "0.95", "size"),
        "flagged as unlike the training images": column(scores, "unlike"),
    }
    lines = [f"| | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    lines += [f"| {words} | {' | '.join(cells)} |" for words, cells in rows.items()]
    first = next(iter(there.values()))
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± standard deviation over the models of 5 seeds. `{where}`: {first['images']} "
            f"images ({counted(first['counts'])}), eight views; always predicting one class has a "
            f"balanced accuracy of {1 / sum(n > 0 for n in first['counts'].values()):.2f}. As "
            "frequent as in normal blood: random draws of 169 images, over half of them "
            f"neutrophils.{mark(*found.values(), robust)}",
        ]
    )


def read_releases(plots: Path) -> dict[str, dict]:
    """The releases' studies, by recipe. Raises `UserError` without scores elsewhere."""
    found = {name: read_release(plots, study) for name, study in RELEASES.items()}
    for name, study in found.items():
        if "elsewhere" not in study:
            raise UserError(
                f"{plots / RELEASES[name]}: no scores elsewhere; rerun python model_release.py "
                f"--config {RELEASES[name]} with --elsewhere DIR"
            )
    return found


def corrupted_accuracy(robust: dict, name: str) -> dict[str, float | None]:
    """A recipe's mean accuracy over all corruptions and severities, over its models."""
    rows = robust["rows"][1:]
    return mean_and_deviation(np.mean([row["accuracy"][name] for row in rows], axis=0).tolist())


def column(scores: dict[str, dict], *keys: str) -> list[str]:
    """One score of each recipe, a dash where it has none."""
    cells = []
    for found in scores.values():
        for key in keys:
            found = found.get(key, {})
        cells.append(deviation(found) if found else "-")
    return cells


def counted(counts: dict[str, int]) -> str:
    """How many images of each class there are."""
    return ", ".join(f"{number} {name}s" for name, number in counts.items() if number)
