"""Finished experiments side by side, as a page with their curves and the images they differ on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from bloodcells.data.bloodmnist import Split
from bloodcells.errors import UserError
from bloodcells.reporting import html
from bloodcells.reporting.figures import comparison as figures
from bloodcells.reporting.results import dataset_of
from bloodcells.reporting.tables.compare import (
    HEADS,
    SPLITS,
    accuracies,
    differences,
    paired_tests,
    recalls,
    shown_names,
    splits,
    warning_of,
)
from bloodcells.reporting.tables.paired import in_words
from bloodcells.tracking import run_folder
from bloodcells.tracking.run_folder import SavedRun


def write_comparison(runs: Sequence[SavedRun], path: Path, data_root: Path | None) -> str | None:
    """Write the page; returns None, or why the test images are not shown.

    `data_root` is that of `bloodmnist.load`. Raises `UserError` if the page cannot be written.
    """
    first, *others = runs
    names = shown_names(runs)
    missing, test = None, None
    try:
        test = dataset_of(first, data_root).test
    except UserError as error:
        missing = str(error)
    with tempfile.TemporaryDirectory() as scratch:
        told = draw(runs, names, test, Path(scratch))
        shown = html.figures(Path(scratch), "test split", of="comparison", told=told)
    html.write(
        path,
        "comparison.html.j2",
        names=[run.folder.name for run in runs],
        scores={
            "caption": "Accuracy",
            "heads": HEADS,
            "rows": [accuracies(run, names[run.folder]) for run in runs],
        },
        classes=[classes(first, other, names) for other in others],
        tests=[
            tests(first, other, split, names) for other in others for split in splits(first, other)
        ],
        differences=differences(runs),
        figures=shown,
        missing=missing,
        warning=warning_of(first),
    )
    return missing


def refuse_equal_names(runs: Sequence[SavedRun]) -> None:
    """Raise `UserError` for run folders of the same name, which would hide each other."""
    names = [run.folder.name for run in runs]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"--compare: several folders named {twice[0]!r}; rename one")


def draw(
    runs: Sequence[SavedRun], names: Mapping[Path, str], test: Split | None, folder: Path
) -> dict[str, str]:
    """Draw the curves and, if the test images are at hand, those that the experiments differ on.

    Returns what the latter show, in words, by their names.
    """
    histories = {names[run.folder]: run_folder.read_history(run.folder) for run in runs}
    first, *others = runs
    watermark = warning_of(first)
    figures.curves(folder / "learning_curves.png", histories, watermark)
    told = {}
    for number, other in enumerate(others if test else (), start=1):
        means = first.probabilities.mean(0), other.probabilities.mean(0)
        pair, name = (names[first.folder], names[other.folder]), f"test_images_that_differ_{number}"
        figures.differing(folder / f"{name}.png", cast(Split, test), means, pair, watermark)
        told[name] = f"test images that only one of {pair[0]} and {pair[1]} classifies correctly"
    return told


def classes(first: SavedRun, other: SavedRun, names: Mapping[Path, str]) -> dict:
    """The table of the classes' recalls in two experiments, and the change."""
    rows = [
        [name, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"]
        for name, before, after in recalls(first, other)
    ]
    heads = ["class", names[first.folder], names[other.folder], "change"]
    return {"caption": "Recall by class, test split", "heads": heads, "rows": rows}


def tests(first: SavedRun, other: SavedRun, split: str, names: Mapping[Path, str]) -> dict:
    """The table of McNemar's exact tests on a split."""
    of, found, gained = paired_tests(first, other, split)
    rows = [
        [str(number), str(test["only_first"]), str(test["only_second"]), f"{test['p']:.2g}"]
        for number, test in enumerate(found, start=1)
    ]
    pair = names[first.folder], names[other.folder]
    caption = f"McNemar's exact test on the same {SPLITS[split]}, {of}"
    caption += f"; {pair[1]} against {pair[0]}: {in_words(gained)}"
    heads = ["pair", *(f"only {name} right" for name in pair), "p"]
    return {"caption": caption, "heads": heads, "rows": rows}
