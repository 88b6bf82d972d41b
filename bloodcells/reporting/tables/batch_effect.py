"""What the second batch costs models that were not trained on it, as Markdown."""

from __future__ import annotations

from pathlib import Path

from bloodcells.reporting.tables.cells import cell, deviation, interval, table
from bloodcells.reporting.tables.reading import older_code, read_study

RECIPES = {  # presets of batch_effect.py, and the recipe of each
    "batch-effect-paper": "the paper's CNN",
    "batch-effect": "`cnn-fast-60`",
    "batch-effect-robust": "`cnn-robust`, smaller and shorter",
    "batch-effect-robustnet": "`cnn-robust`, smaller, without domain randomisation",
    "batch-effect-randomisation": "`cnn-robust`, smaller, with `CellNet`",
}
BRIEF = list(RECIPES)[:3]  # in the README
COLUMNS = {  # score: what it is of
    "first_batch": "first batch, test",
    "second_batch": "second batch, all",
    "new_without": "second batch, validation + test",
    "new_with": "the same images, models trained on both batches",
}
HEADS = (*COLUMNS.values(), "gain")


def read_studies(plots: Path) -> dict[str, dict]:
    """The experiments of `RECIPES`. Raises `UserError` for a missing or unfit one."""
    return {preset: read_study(plots, preset) for preset in RECIPES}


def batch_effect(plots: Path) -> str:
    """The study's recipes, one row each."""
    found = read_studies(plots)
    rows = [[RECIPES[name], *row(one["scores"])] for name, one in found.items()]
    first = next(iter(found.values()))
    scores, images = first["scores"], first["scores"]["images"]
    rarest = min(scores["recalls"], key=lambda one: one["images"]["new"])
    precisions = ", ".join(one["config"]["precision"] for one in found.values())
    change = ", ".join(cost_at_home(one["scores"]) for one in found.values())
    return "\n\n".join(
        [
            table(["recipe", *HEADS], rows),
            f"Balanced accuracy over the {len(scores['recalls'])} classes of the second batch, "
            f"mean ± standard deviation over {first['config']['runs']} seeds [95 % bootstrap "
            "interval over images, resampled within classes; too narrow where a class has no "
            "errors]; the paper's CNN with one view, the others with eight. The first three "
            "columns are of models trained on the first batch alone. For the fourth, some of these "
            "training images were replaced by as many of the second batch, class by class, the "
            "same ones for all seeds. "
            f"{images['first']:,} test images of the first batch, {images['second']} of the "
            f"second, of which {images['new']} are in the validation and "
            f"test splits ({rarest['images']['new']} {rarest['class']}s, the fewest of a class). "
            "Gain: the fourth column less the third, in points; on the first batch, the same "
            f"replacement changes the score by {change} points, in the order of the rows. "
            f"Precision, likewise: {precisions}."
            f"{older_code(*found.values())}",
        ]
    )


def in_brief(plots: Path) -> str:
    """The scores on the batch that was left out, in a sentence."""
    found = read_studies(plots)
    images = next(iter(found.values()))["scores"]["images"]["second"]
    listed = [f"{RECIPES[name]}: {left_out_and_at_home(found[name]['scores'])}" for name in BRIEF]
    return (
        "A change of batch: models [trained without the data set's second batch]"
        "(docs/other-laboratories.md#a-batch-left-out) have these balanced accuracies (mean "
        f"recalls) on its {images} images [95 % interval over images], and in parentheses on the "
        f"first batch's test images: {'; '.join(listed)}."
    )


def cost_at_home(scores: dict) -> str:
    """What the second batch in training changes on the first one, in points."""
    with_both, without = scores["first_batch_with"]["mean"], scores["first_batch"]["mean"]
    return f"{100 * (with_both - without):+.1f}"


def left_out_and_at_home(scores: dict) -> str:
    """The score on the batch left out, with its interval; in parentheses that on the first one."""
    left_out, at_home = scores["second_batch"], scores["first_batch"]
    ends = interval(left_out["low"], left_out["high"], ".2f")
    return f"{left_out['mean']:.2f} {ends} ({at_home['mean']:.2f})"


def summary_of(scores: dict) -> str:
    """The table of one experiment, to print."""
    classes = f"{len(scores['recalls'])} classes"
    return table(["balanced accuracy", *HEADS], [[classes, *row(scores)]])


def row(scores: dict) -> list[str]:
    """An experiment's cells under `HEADS`."""
    gain = {key: value and 100 * value for key, value in scores["gain"].items()}  # or None
    points = f"{deviation(gain, 1, '+')} {interval(gain['low'], gain['high'], '+.1f')}"
    return [*(cell(scores[name]) for name in COLUMNS), points]
