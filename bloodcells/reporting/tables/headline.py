"""The table of the README: the recipes in brief, at home and elsewhere, as Markdown."""

from __future__ import annotations

from pathlib import Path

from bloodcells.reporting.tables.batch_effect import in_brief
from bloodcells.reporting.tables.cells import (
    cell,
    deviation,
    either,
    hardware,
    median_gflops,
    median_seconds,
    table,
)
from bloodcells.reporting.tables.elsewhere import (
    DEVELOPMENT,
    VIEWS,
    corrupted_accuracy,
    over_slides,
    read_releases,
)
from bloodcells.reporting.tables.reading import older_code, read_run
from bloodcells.reporting.tables.release import TRAINED_ON, read_robustness

RECIPES = {
    "baseline": "one linear layer (paper)",
    "cnn-paper": "the paper's CNN",
    "cnn-fast-15": "`cnn-fast-15`",
    "cnn-best": "`cnn-best`",
    "cnn-robust": "`cnn-robust`",
    "cnn-stages": "`cnn-stages`, eleven stages",
}
NO_CLEAN_TEST = " This is no clean test: choices were made on these images."
HEADS = (
    *("recipe", "parameters", "test accuracy"),
    *("corrupted", "another laboratory", "training, s (GFLOP/s)"),
)


def headline(plots: Path) -> str:
    """Accuracy with its interval, on corrupted images and elsewhere too, and training time."""
    releases, robust = read_releases(plots), read_robustness(plots)
    runs = {name: read_run(plots, name) for name in RECIPES}
    lines = []
    for name, run in runs.items():
        metrics, elsewhere, corrupted = run.metrics, "", ""
        seconds, gflops = median_seconds(metrics), median_gflops(metrics)
        if name in releases:
            scores = releases[name]["elsewhere"]["views"][VIEWS]
            elsewhere = f"{deviation(scores['balanced_accuracy'], 2)} {over_slides(scores, '.2f')}"
        if name in robust["runs"]:
            corrupted = deviation(corrupted_accuracy(robust, name), 3)
        cells = [
            RECIPES[name] + older_code(metrics),
            f"{metrics['model']['parameters'] / 1e6:.2f} M",
            cell(metrics["test"]["accuracy"], 4),
            corrupted,
            elsewhere,
            (f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}")
            + (f" ({gflops:.0f})" if gflops else ""),
        ]
        lines.append(cells)
    where = either(hardware(run.metrics) for run in runs.values())
    precisions = either(run.metrics["config"]["precision"] for run in runs.values())
    there = releases["cnn-robust"]["elsewhere"]
    models = either(len(run.probabilities) for run in runs.values())
    many = sum(run.metrics["config"].get("views", 1) > 1 for run in runs.values())
    present = sum(count > 0 for count in there["counts"].values())
    like = sum(change is not None for change in TRAINED_ON.values())
    columns = [
        f"**test accuracy**: mean ± standard deviation over {models} models (folds in the first "
        "two rows, else seeds) [95 % bootstrap interval over test images]. The last "
        f"{many} recipes average over 8 views of each image, its rotations and reflections "
        "(test-time augmentation). `cnn-stages` names stages of maturation, not classes.",
        f"**corrupted**: accuracy on {robust['images']:,} test images under {len(TRAINED_ON)} "
        f"corruptions at 5 severities, one view, ± over models. {like} of the {len(TRAINED_ON)} "
        "resemble changes that `cnn-robust` is trained on, and choices were made on validation "
        f"images corrupted alike.{older_code(robust)}",
        f"**[another laboratory](docs/other-laboratories.md)**: mean recall of the {present} "
        f"classes of `{there['name']}`, {there['images']} images, where any of the eight classes "
        f"can be the answer [95 % interval over {there['slides']} slides]."
        + (NO_CLEAN_TEST if there["name"] == DEVELOPMENT else "")
        + older_code(*releases.values()),
        f"**training**: median seconds per model, on {where}, {precisions}; in parentheses the "
        "machine's speed in float32 matrix products. `cnn-fast-15` was designed to train in 15 s "
        "without bfloat16.",
    ]
    words = "\n".join(f"- {column}" for column in columns)
    return "\n\n".join([table(HEADS, lines), words, in_brief(plots)])
