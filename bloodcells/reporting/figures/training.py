"""Figures of an experiment: learning curves, confusion matrix, class recall, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from bloodcells.reporting.figures.style import BLUE, ORANGE, page, short

USUAL_COLUMNS = (  # of a history, which get no panel of their own
    *("seed", "fold", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("lr", "train_seconds", "machine_gflops"),
)


SCALE_END = 30  # % of a class: where the colours of all confusion matrices end
RECALL_AXIS_STARTS = (0.9, 0.5, 0)


def learning_curves(path: Path, history: list[dict], watermark: str | None, note: str = "") -> None:
    """Loss, accuracy, and whatever else the history has, by epoch.

    A line is the mean over runs, a band their range; `note` is printed below. Held-out images have
    a line if the history has their columns. A column that a script adds, such as the norm of the
    gradients, gets a panel of its own.
    """
    quantities: dict[str, dict[str, str]] = {"loss": {}, "accuracy": {}}  # each line's column
    for quantity, columns in quantities.items():
        for split, name in (("train", "training"), ("val", "held out")):
            if f"{split}_{quantity}" in history[0]:
                columns[name] = f"{split}_{quantity}"
    for column in history[0]:
        if column not in USUAL_COLUMNS:
            quantities[column.replace("_", " ")] = {"": column}
    quantities = {quantity: columns for quantity, columns in quantities.items() if columns}
    with page(path, 3.5 * len(quantities), 2.8, watermark) as figure:
        panels = figure.subplots(1, len(quantities), squeeze=False)[0]
        for axes, (quantity, columns) in zip(panels, quantities.items(), strict=True):
            curves(axes, history, columns)
            axes.set(xlabel="epoch", ylabel=quantity)
            axes.xaxis.get_major_locator().set_params(integer=True)
        runs = len({(row["seed"], row.get("fold")) for row in history})
        words = f"line: mean of {runs} runs, band: their range" if runs > 1 else "one run"
        figure.supxlabel("\n".join(filter(None, (words, note))), size=7)


def over_models(
    history: list[dict], column: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """The epochs, and of each the mean, least and largest value over the models that had it."""
    values: dict[int, list[float]] = {}
    for row in history:
        values.setdefault(row["epoch"], []).append(row[column])
    epochs = sorted(values)
    mean, low, high = (
        [float(pick(values[epoch])) for epoch in epochs] for pick in (np.mean, np.min, np.max)
    )
    return epochs, mean, low, high


def curves(axes: Axes, history: list[dict], columns: dict[str, str]) -> None:
    """Draw a line for each of `columns`, {name: column}, with its name at the end."""
    last = {}
    for name, column in columns.items():
        colour = ORANGE if name == "held out" else BLUE
        epochs, mean, low, high = over_models(history, column)
        axes.plot(epochs, mean, color=colour, marker=".")
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0)
        last[name] = mean[-1], colour
    axes.margins(y=0.1)
    upper = max(last, key=last.__getitem__)
    for name, (value, colour) in last.items():
        at = (4, 5 if name == upper else -5)
        axes.annotate(name, (epochs[-1], value), at, textcoords="offset points",
                      color=colour, va="center")  # fmt: skip


def confusion_matrix(
    path: Path,
    counts: np.ndarray,
    names: Sequence[str],
    watermark: str | None = None,
    *,
    counted: str,
) -> None:
    """Image counts by true and predicted class, mean over runs; only errors are coloured.

    `counted` says below the figure what the numbers are.
    The colour scale is a square root, so that rare errors show beside frequent ones, and the same
    for all experiments.
    """
    images = counts.sum(1)
    share = 100 * counts / np.maximum(images, 1)[:, None]
    errors = np.ma.masked_array(share, np.eye(len(names), dtype=bool) | (images == 0)[:, None])
    side = max(4.6, 0.52 * len(names))
    with page(path, side + 0.6, side, watermark) as figure:
        axes = figure.subplots()
        axes.set_facecolor("#E6E6E6")  # of the diagonal, and of classes without images
        picture = axes.imshow(errors, cmap="Oranges", norm=PowerNorm(0.5, vmin=0, vmax=SCALE_END))
        ticks = range(len(names))
        axes.set_xticks(ticks, short(names), rotation=40, ha="right", rotation_mode="anchor")
        true = [n if count else f"{n} (0)" for n, count in zip(short(names), images, strict=True)]
        axes.set_yticks(ticks, true)
        axes.set(xlabel="predicted class", ylabel="true class")
        for row, column in np.argwhere(counts > 0):
            number = counts[row, column]
            text = f"{number:.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")
            dark = row != column and share[row, column] > 0.6 * SCALE_END
            axes.text(
                column, row, text, ha="center", va="center", color="white" if dark else "black",
                size=7.5, weight="bold" if row == column else "normal",
            )  # fmt: skip
        bar = figure.colorbar(
            picture, ax=axes, shrink=0.8, label="errors, % of the true class", extend="max"
        )
        bar.set_ticks([0, 1, 3, 10, SCALE_END])
        bar.ax.yaxis.set_major_formatter("{x:g}")
        figure.supxlabel(f"numbers: {counted}", size=7)


def class_recall(path: Path, rows: list[dict], watermark: str | None, *, counted: str) -> None:
    """Recall by class with its 95 % interval, from the rows of `metrics.per_class`.

    `counted` says of which images, and of how many models. A class without images has no recall.
    """
    with page(path, 5.2, 0.7 + 0.3 * len(rows), watermark) as figure:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        recall = np.array([row["recall"] if row["support"] else np.nan for row in rows])
        ends = np.array([[row["recall_low"], row["recall_high"]] for row in rows]).T
        axes.errorbar(recall, places, xerr=abs(ends - recall), fmt="o", color=BLUE, capsize=2.5)
        for place, value in zip(places, recall, strict=True):
            if not np.isnan(value):
                axes.annotate(f"{value:.3f}", (value, place), (0, 5), textcoords="offset points",
                              ha="center", size=7.5)  # fmt: skip
        labels = [f"{s} ({row['support']})" for s, row in zip(
            short([row["class"] for row in rows]), rows, strict=True)]  # fmt: skip
        axes.set_yticks(places, labels)
        lowest = ends[0, ~np.isnan(recall)].min()
        axes.set_xlim(next((end for end in RECALL_AXIS_STARTS if lowest >= end), 0), 1.005)
        axes.set_xlabel(f"recall, with 95 % interval over images\n{counted}", size=8)
        axes.margins(y=0.09)


def confident_mistakes(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    watermark: str | None,
    rows: np.ndarray | None = None,
    *,
    table: str,
) -> None:
    """The 24 misclassified images with the highest probability of the wrong class.

    `probabilities`: (N, classes). `rows`, (N,), are the images' rows in the file that `table`
    names, with whatever else is to be said of the numbers; None: 0 to N - 1.
    """
    names = [name if len(name) <= 16 else f"{name[:15]}…" for name in short(names)]
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    with page(path, 8, 4.6, watermark) as figure:
        axes = figure.subplots()  # one for all images: 24 take seconds to lay out
        axes.axis("off")
        for place, index in enumerate(worst):
            down, right = divmod(place, 8)
            left, bottom = right + 0.04, -1.48 * (down + 1)
            axes.imshow(images[index], extent=(left, left + 0.92, bottom, bottom + 0.92))
            axes.text(
                left + 0.46, bottom + 0.97,
                f"{names[labels[index]]}\nread as {names[predicted[index]]}\n"
                f"{confidence[index]:.2f}, no. {index if rows is None else rows[index]}",
                size=6.5, ha="center",
            )  # fmt: skip
        axes.set(xlim=(0, 8), ylim=(-3 * 1.48, 0))
        figure.supxlabel(f"number: probability of the wrong class; no.: row of {table}", size=7)
