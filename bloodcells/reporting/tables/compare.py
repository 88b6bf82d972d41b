"""Finished experiments side by side, as text: their accuracies, and how they differ."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from bloodcells.cli.arguments import SYNTHETIC
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mcnemar, mean_and_deviation
from bloodcells.reporting.tables.cells import cell, deviation, label_of, median_seconds
from bloodcells.reporting.tables.paired import Gain, gain, in_words
from bloodcells.reporting.tables.reading import idle_code
from bloodcells.tracking.code_hash import different
from bloodcells.tracking.run_folder import HeldOut, SavedRun, named, origin

NOT_HELD_OUT = ("as-published", "train-and-validation")
SPLITS = {"val": "held-out images, for choosing", "test": "test images, for reporting"}
LONG = 24  # characters of a name that is written in full
HEADS = ["experiment", "held-out accuracy", "test accuracy", "models", "s per model"]


class ModelKey(NamedTuple):
    """What models of two experiments must share to be a pair.

    Folds of different divisions have nothing but their number in common.
    """

    seed: int
    fold: int | None
    division: tuple | None  # of a fold: its protocol, and into how many folds


def compare_runs(runs: Sequence[SavedRun]) -> str:
    """One line per experiment, then what differs in settings and code, paired tests, and classes.

    Held-out accuracy is for choosing; test accuracy is for reporting what was chosen. Raises
    `UserError` for experiments on different data.
    """
    first, *others = runs
    for run in others:
        if run.metrics["dataset"] != first.metrics["dataset"] or not np.array_equal(
            run.labels, first.labels
        ):
            raise UserError(f"{run.folder}: on different data from {first.folder}")
    names = shown_names(runs)
    table = [HEADS, *(accuracies(run, names[run.folder]) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    lines += differences(runs)
    for other in others:
        both = names[first.folder], names[other.folder]
        lines += paired(first, other, both)
        lines += by_class(first, other, both)
    if warning := warning_of(first):
        lines.append(f"NOTE {warning}.")
    return "\n".join(lines)


def warning_of(run: SavedRun) -> str | None:
    """What must be said of the results; None if they are of real images."""
    return SYNTHETIC if run.metrics["dataset"]["synthetic"] else None


def shown_names(runs: Sequence[SavedRun]) -> dict[Path, str]:
    """What each is called, by its folder: the folder's name, or a letter if one is long.

    If there are more than letters, the long names stay.
    """
    names = {run.folder: run.folder.name for run in runs}
    letters = string.ascii_uppercase
    if max(map(len, names.values())) <= LONG or len(names) > len(letters):
        return names
    return dict(zip(names, letters, strict=False))


def accuracies(run: SavedRun, name: str) -> list[str]:
    """An experiment's row under `HEADS`: its accuracies, models, and their median seconds.

    Accuracies are means ± standard deviations over models, on test with the 95 % interval.
    """
    rows = run.metrics["runs"]
    own = label_of(run.folder.name, run.metrics)
    return [
        own if name == run.folder.name else f"{name}: {own}",
        spread([row["val"]["accuracy"] for row in rows if row["val"]]),
        cell(run.metrics["test"]["accuracy"], 4),
        str(len(scored(run))),
        f"{median_seconds(run.metrics):.0f}",
    ]


def spread(values: list[float]) -> str:
    """Mean ± standard deviation; a dash if there are no values."""
    return deviation(mean_and_deviation(values)) if values else "-"


def differences(runs: Sequence[SavedRun]) -> list[str]:
    """One line per differing setting, one for differing code, one per experiment of edited code.

    Code that does nothing with the settings of any of them is left out.
    """
    configs = [run.metrics["config"] for run in runs]
    keys = sorted(set().union(*configs))
    lines = []
    for key in keys:
        values = [config.get(key) for config in configs]
        if any(value != values[0] for value in values):
            lines.append(f"{key}: {' | '.join(map(str, values))}")
    codes = [run.metrics["code"] for run in runs]
    files = {path for code in codes for path in different(codes[0]["files"], code["files"])}
    unused = [idle_code(run.metrics) for run in runs]
    if files := files - unused[0].intersection(*unused[1:]):
        lines.append(f"code: {named(sorted(files))}")
    for run, code in zip(runs, codes, strict=True):
        if code["edited"]:
            edited = named(code["edited"])
            lines.append(f"{run.folder.name}: edited since {origin(code['commit'])}: {edited}")
    return lines


def paired(first: SavedRun, other: SavedRun, names: tuple[str, str]) -> list[str]:
    """`paired_tests` as text, of each split that both have."""
    lines = []
    if "val" not in splits(first, other):
        lines.append(f"held-out images, for choosing, cannot be paired: {why_not(first, other)}")
    for split in splits(first, other):
        of, tests, gained = paired_tests(first, other, split)
        lines.append(f"on the same {SPLITS[split]}, {of}")
        lines.append(f"  {names[1]} against {names[0]}: {in_words(gained)}")
        lines.append(f"  only {names[0]} : only {names[1]} right")
        lines += [
            f"  {test['only_first']} : {test['only_second']}, p = {test['p']:.2g}" for test in tests
        ]
    return lines


def splits(first: SavedRun, other: SavedRun) -> list[str]:
    """The splits on which two experiments can be paired: they share the images, and the folds."""
    one, two = first.held_out, other.held_out
    shared = one is not None and two is not None and np.array_equal(one.labels, two.labels)
    return ["val"] * shared + ["test"]


def why_not(first: SavedRun, other: SavedRun) -> str:
    """Why two experiments cannot be paired on held-out images."""
    protocols = [run.metrics["config"].get("protocol") for run in (first, other)]
    if protocols[0] != protocols[1]:
        return f"the protocols are {' and '.join(map(str, protocols))}"
    if protocols[0] in NOT_HELD_OUT:
        return f"--protocol {protocols[0]} leaves none that all models hold out"
    return "they are other images, or in other folds"


def paired_tests(first: SavedRun, other: SavedRun, split: str) -> tuple[str, list[dict], Gain]:
    """What is paired, in words, McNemar's exact test of each pair, and what `other` gains."""
    (labels, one), (_, two) = answers(first, split), answers(other, split)
    folds = split == "val" and first.metrics["config"]["protocol"] == "cross-validation"
    if folds:
        pairs, words = [(0, 0)], "each image by the model of the fold that holds it out"
    else:
        pairs, words = pairing(scored(first, split), scored(other, split))
    before, after = one[[n for n, _ in pairs]], two[[m for _, m in pairs]]
    tests = [mcnemar(labels, *pair) for pair in zip(before, after, strict=True)]
    gained = gain(labels, before=before, after=after)
    return words, tests, gained._replace(std=over_folds(first, other)) if folds else gained


def over_folds(first: SavedRun, other: SavedRun) -> float:
    """The standard deviation, over the folds, of the points that `other` gains."""
    ours, theirs = (
        np.array([row["val"]["accuracy"] for row in run.metrics["runs"]]) for run in (first, other)
    )
    return float((100 * (theirs - ours)).std(ddof=1))


def pairing(ours: list[ModelKey], theirs: list[ModelKey]) -> tuple[list[tuple[int, int]], str]:
    """Which models, by number, are paired with which, and that in words.

    Those of the same seed and fold if there are any, as the mean of several would gain by being an
    ensemble; one model alone with each of the other experiment's.
    """
    same = [(n, theirs.index(key)) for n, key in enumerate(ours) if key in theirs]
    if len(same) == len(ours) == len(theirs):
        return same, "by pair of models"
    if len(same) == 1:
        key = ours[same[0][0]]
        of_fold = "" if key.fold is None else f", fold {key.fold}"
        return same, f"the models of seed {key.seed}{of_fold}"
    if same:
        return same, f"by the {len(same)} pairs of models with the same seed and fold"
    few = min(len(ours), len(theirs))
    if few == 1 < max(len(ours), len(theirs)):
        every = list(np.ndindex(len(ours), len(theirs)))
        return every, "one model with each of the other experiment"
    alike = "" if len(ours) == len(theirs) else f"the first {few} "
    return [(n, n) for n in range(few)], f"by pair of {alike}models"


def answers(run: SavedRun, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The labels of a split, (N,), and the classes that the models predict, (models, N)."""
    part = cast(HeldOut, run.held_out) if split == "val" else run
    return part.labels, part.probabilities.argmax(2)


def scored(run: SavedRun, split: str = "test") -> list[ModelKey]:
    """The models that were scored on a split."""
    config = run.metrics["config"]
    division = config.get("protocol"), config.get("folds")
    return [
        ModelKey(row["seed"], row["fold"], None if row["fold"] is None else division)
        for row in run.metrics["runs"]
        if row[split] is not None
    ]


def by_class(first: SavedRun, other: SavedRun, names: tuple[str, str]) -> list[str]:
    """One line per class whose recall differs, those that got better first."""
    rows = sorted(recalls(first, other), key=lambda row: row[1] - row[2])
    lines = [
        f"  {name:20} {before:.3f} -> {after:.3f}  ({after - before:+.3f})"
        for name, before, after in rows
        if round(before, 3) != round(after, 3)
    ]
    if lines:
        lines.insert(0, f"recall by class on test images, {names[0]} -> {names[1]}")
    return lines


def recalls(first: SavedRun, other: SavedRun) -> list[tuple[str, float, float]]:
    """Each class's recall in two experiments, means over their models."""
    return [
        (one["class"], one["recall"], two["recall"])
        for one, two in zip(
            first.metrics["test_per_class"], other.metrics["test_per_class"], strict=True
        )
    ]
