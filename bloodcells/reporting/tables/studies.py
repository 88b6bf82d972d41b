"""Tables across experiments, as Markdown: accuracy against training time, and the ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bloodcells.cli.presets import PRESETS, layers
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mcnemar, summarise
from bloodcells.reporting.tables.cells import (
    cell,
    class_cells,
    machine,
    median_gflops,
    median_seconds,
    one_view,
    percent,
    table,
)
from bloodcells.reporting.tables.paired import comparison, gain, in_words
from bloodcells.reporting.tables.reading import older_code, read_run, read_study
from bloodcells.tracking.run_folder import SavedRun


class Published(NamedTuple):
    """An accuracy on the official test split, at 28 pixels, that others published, and where."""

    network: str
    source: str
    address: str
    millions: float | None  # of parameters
    accuracy: float
    runs: str
    one_view: bool = True


MEDMNIST = "MedMNIST v2", "https://doi.org/10.1038/s41597-022-01721-8"
CALIBRATED = "medmnist-c-cal", "https://github.com/xmadmaxdx/medmnist-c-cal"
VESPERALE = "vesperale1112/bloodmnist", "https://github.com/vesperale1112/bloodmnist"
RUSSO = "tomrussobuilds/bloodmnist", "https://github.com/tomrussobuilds/bloodmnist"
PUBLISHED_ELSEWHERE = (
    Published("ResNet-18", *MEDMNIST, 11.2, 0.958, "mean of 3 or more"),
    Published("Google AutoML Vision", *MEDMNIST, None, 0.966, "mean of 3 or more"),
    Published("ResNet-18", *CALIBRATED, 11.2, 0.966, "mean of 3"),
    Published("small CNN", *VESPERALE, 0.3, 0.965, "1 run"),
    Published("ResNet-18", *VESPERALE, 11.2, 0.970, "1 run"),
    Published(
        "pretrained ResNet-18",
        *RUSSO,
        11.2,
        0.975,
        "test-time augmentation; best of several readings of the test split",
        one_view=False,
    ),
)
LADDER = (
    *("cnn-paper", "cnn-fast-15", "cnn-fast-30", "cnn-fast-60", "cnn-fast-100", "cnn-fast-200"),
    "cnn-best",
)
MIXED = {"cnn-best": 3, "cnn-robust": 2}  # so many models of each, chosen on validation
COMPARED = (  # how a pair of runs differs besides the recipe
    "`cnn-best` (one seed, trained on train, eight views)",
    "the paper's CNN (one fold's model, trained on the other folds of train + validation, one "
    "view)",
)

LADDER_HEADS = (
    *("recipe", "parameters", "test accuracy, one view", "eight views", "ensemble"),
    *("training, s per model", "machine, GFLOP/s", "whole experiment"),
)
ABLATION_HEADS = (
    *("recipe", "held-out accuracy", "change, points", "one view", "p", "relative time"),
)
TAUGHT = ("`cnn-distilled` with one view", "`cnn-best` with one view")


def ladder(plots: Path) -> str:
    """Accuracy against training time, ours and published elsewhere, as Markdown."""
    runs = {preset: read_run(plots, preset) for preset in LADDER}
    lines = []
    for one in PUBLISHED_ELSEWHERE:
        size = f"{one.millions} M" if one.millions else ""
        cells = [f"{one.accuracy:.3f}", ""] if one.one_view else ["", f"{one.accuracy:.3f}"]
        name = f"{one.network} ([{one.source}]({one.address})); {one.runs}"
        lines.append([name, size, *cells, "", "", "", ""])
    rows = {f"`{preset}`": run for preset, run in runs.items()}
    both, robust = "train-and-validation", "cnn-robust"
    best_on_both = rows["`cnn-best` on train + validation"] = read_run(plots, "cnn-best", both)
    taught = read_run(plots, "cnn-distilled")
    rows["`cnn-distilled`, taught by `cnn-best`"] = taught
    several = len({machine(run.metrics) for run in rows.values()}) > 1
    lines += [ladder_row(name, run, several) for name, run in rows.items()]
    best, paper = runs["cnn-best"], runs["cnn-paper"]
    robust_on_both = read_run(plots, robust, both, models=MIXED[robust])
    mixed = {
        "": {"cnn-best": best, robust: read_run(plots, robust)},
        ", on train + validation": {"cnn-best": best_on_both, robust: robust_on_both},
    }
    lines += [mixed_row(where, members) for where, members in mixed.items()]
    return "\n\n".join(
        [
            table(LADDER_HEADS, lines),
            ladder_words(best, best_on_both),
            comparison(best, paper, COMPARED),
            comparison(with_one_view(taught), with_one_view(best), TAUGHT),
            *(mixed_words(where, members) for where, members in mixed.items()),
        ]
    )


def with_one_view(run: SavedRun) -> SavedRun:
    """The experiment, with the probabilities of one view."""
    with np.load(run.folder / "predictions.npz", allow_pickle=False) as arrays:
        one = "probabilities_one_view"  # there only if the others are of several views
        return replace(run, probabilities=arrays[one if one in arrays else "probabilities"])


def ladder_points(plots: Path) -> list[dict]:
    """The ladder as points for a figure: name, parameters, train_seconds, accuracy, ours.

    Ours also have the accuracy's interval, low and high, and the accuracy with one view. Results
    published elsewhere are named after their source.
    """
    points: list[dict] = [
        {
            "name": one.source.partition("/")[0],
            "parameters": one.millions and one.millions * 1e6,
            "train_seconds": None,
            "accuracy": one.accuracy,
            "ours": False,
        }
        for one in PUBLISHED_ELSEWHERE
    ]
    for preset in LADDER:
        metrics = read_run(plots, preset).metrics
        accuracy = metrics["test"]["accuracy"]
        points.append(
            {
                "name": preset.removeprefix("cnn-").removeprefix("fast-"),
                "parameters": metrics["model"]["parameters"],
                "train_seconds": median_seconds(metrics),
                "accuracy": accuracy["mean"],
                "interval": (accuracy["low"], accuracy["high"]),
                "one_view": one_view(metrics)["accuracy"]["mean"],
                "ours": True,
            }
        )
    return points


def ladder_row(name: str, run: SavedRun, name_machine: bool) -> list[str]:
    """A recipe's cells under `LADDER_HEADS`, with its machine if `name_machine`."""
    metrics = run.metrics
    single = one_view(metrics)["accuracy"]
    eight = cell(metrics["test"]["accuracy"], 4) if metrics["config"]["views"] > 1 else ""
    together = metrics.get("test_ensemble")
    gflops = median_gflops(metrics)
    command = metrics.get("command_seconds")
    return [
        name + older_code(metrics),
        f"{metrics['model']['parameters'] / 1e6:.2f} M",
        cell(single, 4),
        eight,
        cell(together["accuracy"], 4) if together else "",
        f"{median_seconds(metrics):.0f}" + (f" ({machine(metrics)})" if name_machine else ""),
        f"{gflops:.0f}" if gflops else "",
        f"{command:.0f} s for {len(metrics['runs'])} models" if command else "",
    ]


def mean_answer(runs: dict[str, SavedRun]) -> np.ndarray:
    """The mean probabilities, (1, N, classes), of as many first models of each as `MIXED` says.

    Raises `UserError` if there are fewer, or if they are not of the same test images.
    """
    first, *others = runs.values()
    same = all(np.array_equal(run.labels, first.labels) for run in others)
    if not same or any(len(run.probabilities) < MIXED[name] for name, run in runs.items()):
        raise UserError(f"{', '.join(runs)}: too few models, or of other test images")
    members = [run.probabilities[: MIXED[name]] for name, run in runs.items()]
    return np.concatenate(members).mean(0, keepdims=True)


def mixed_row(where: str, runs: dict[str, SavedRun]) -> list[str]:
    """The cells under `LADDER_HEADS` of the models of several recipes together.

    `where` says what they were trained on, if not on train.
    """
    found = summarise(next(iter(runs.values())).labels, mean_answer(runs))
    sizes = [run.metrics["model"]["parameters"] / 1e6 for run in runs.values()]
    return [
        " and ".join(f"{MIXED[name]} models of `{name}`" for name in runs)
        + where
        + older_code(*(run.metrics for run in runs.values())),
        " and ".join(f"{size:.2f} M" for size in sizes),
        *("", ""),
        cell(found["accuracy"], 4),
        *("", "", ""),
    ]


def mixed_words(where: str, runs: dict[str, SavedRun]) -> str:
    """What models of several recipes together gain over those of `cnn-best`, trained alike."""
    best = runs["cnn-best"]
    mixed, alone = (
        p.argmax(2) for p in (mean_answer(runs), best.probabilities.mean(0, keepdims=True))
    )
    test = mcnemar(best.labels, mixed[0], alone[0])
    return (
        f"{sum(MIXED.values())} models of two recipes together against the "
        f"{len(best.probabilities)} of `cnn-best` together{where}: "
        f"{in_words(gain(best.labels, before=alone, after=mixed))}. Images that only one of them "
        f"has right (first : second): {test['only_first']}:{test['only_second']} (McNemar's exact "
        f"test: p {test['p']:.2g})."
    )


def ladder_words(best: SavedRun, on_both: SavedRun) -> str:
    """What the columns mean, and other metrics of the best recipe."""
    auc, auc_on_both = (cell(run.metrics["test"]["auc_macro"], 4) for run in (best, on_both))
    row = CLASS_NAMES.index("immature granulocyte")
    recall, recall_on_both = (
        class_cells(run.metrics["test_per_class"][row])[-1] for run in (best, on_both)
    )
    return (
        "Published: MedMNIST v2 is Yang et al. (2023), the others are public repositories. Ours: "
        f"mean ± standard deviation over {len(best.probabilities)} models (seeds; folds for "
        "`cnn-paper`) [95 % bootstrap interval over test images]. Training: median seconds per "
        "model, without start-up and scoring. GFLOP/s: the machine's speed in float32 matrix "
        "products, measured after each epoch, as it varies. `cnn-best` on train + "
        "validation was trained after all choices were "
        "made. `cnn-distilled` learns labels softened by the five models of `cnn-best` with eight "
        f"views, whose training is not in its seconds. `cnn-best` ({machine(best.metrics)}): "
        f"macro AUC {auc}, recall of immature granulocytes {recall}; on train + validation, macro "
        f"AUC {auc_on_both} and recall {recall_on_both}."
    )


def ablation(plots: Path) -> str:
    """What each part of the recipe contributes on held-out images, as Markdown."""
    found = read_study(plots, "ablation")
    rows, config = found["variants"], found["config"]
    base = list(layers(PRESETS / "ablation.toml"))[1].stem
    return "\n\n".join(
        [
            ablation_table(rows),
            f"The whole recipe is `{base}`, a small and short relative of `cnn-best` "
            f"({config['epochs']} epochs, widths {config['widths']}). Held-out accuracy in %, mean "
            f"± standard deviation over {config['replicates']} folds of train + validation, with "
            f"{config['views']} views and with one view. Relative time: median ratio to "
            "the whole recipe on the same fold. p: McNemar's exact test against the whole recipe "
            "on the held-out images of all folds together, corrected for "
            f"{len(rows) - 1} comparisons (Holm, 1979); it covers the sampling of images, not "
            "another training. The recipe was chosen on images of the same pool, which favours it. "
            f"The test split was not read.{older_code(found)}",
        ]
    )


def ablation_table(rows: list[dict]) -> str:
    """The variants' scores as Markdown."""
    p_values = ["", *(f"{p:.1g}" for p in holm([row["mcnemar"]["p"] for row in rows[1:]]))]
    lines = [
        [
            row["name"],
            percent(row["accuracy"]),
            percent(row["change"], "+") if row is not rows[0] else "",
            percent(row["accuracy_one_view"]),
            p,
            f"{np.median(row['time_ratio']):.2f}",
        ]
        for row, p in zip(rows, p_values, strict=True)
    ]
    return table(ABLATION_HEADS, lines)


def holm(values: Sequence[float]) -> list[float]:
    """The p values, corrected for as many comparisons (Holm, 1979)."""
    order, corrected, largest = np.argsort(values), [1.0] * len(values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, values[number] * (len(values) - rank))
        corrected[number] = min(1.0, largest)
    return corrected
