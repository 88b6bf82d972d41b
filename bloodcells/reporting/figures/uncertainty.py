"""Figures of calibration, abstention, prediction sets and out-of-distribution images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator

from bloodcells.data.bloodmnist import Split
from bloodcells.evaluation import calibration
from bloodcells.inference.cards import VIEWS
from bloodcells.reporting.figures.style import BLUE, GREY, ORANGE, RED, page, short


def draw_all(
    folder: Path,
    suffix: str,
    members: list[dict],
    test: Split,
    mark: str | None,
    there: tuple[np.ndarray, list[np.ndarray]] | None = None,
) -> None:
    """All figures of `uncertainty.measure`'s members, one per seed.

    `there`: the labels of images elsewhere, and each member's probabilities of them.

    A figure of one model shows the first member, which is the released one.
    """
    best, labels, names = members[0]["views"][max(VIEWS)], test.labels, test.names

    def path(name: str) -> Path:
        return folder / f"{name}.{suffix}"

    bins = {
        when: calibration.reliability(labels, best["probabilities"][when])
        for when in ("before", "after")
    }
    reliability(path("reliability"), bins, mark)
    curves = {
        f"{views} view{'s' * (views > 1)}": [
            calibration.risk_coverage(labels, m["views"][views]["probabilities"]["after"])
            for m in members
        ]
        for views in VIEWS
    }
    if there is not None:
        curves["another laboratory"] = [calibration.risk_coverage(there[0], p) for p in there[1]]
    risk_coverage(path("risk_coverage"), curves, mark)
    sets(path("sets"), best["set_scores"], names, mark)
    distances(path("unlike"), members[0]["distances"], members[0]["farthest"], mark)


def reliability(path: Path, bins: dict[str, list[dict]], mark: str | None = None) -> None:
    """Accuracy against confidence in bins, before and after temperature scaling."""
    with page(path, 6.4, 3.2, mark) as figure:
        for axes, (when, rows) in zip(
            figure.subplots(1, 2, sharey=True), bins.items(), strict=True
        ):
            x, y, n = (np.array([r[k] for r in rows]) for k in ("confidence", "accuracy", "images"))
            axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
            axes.vlines(x, x, y, color=ORANGE, lw=1)
            axes.scatter(x, y, 3 + 150 * n / n.sum(), color=BLUE, zorder=3)
            axes.set(xlabel="probability of the top class", title=f"{when} temperature scaling")
        figure.axes[0].set_ylabel("accuracy")
        figure.supxlabel("larger dots: more images", size=7)


def risk_coverage(
    path: Path, curves: dict[str, list[tuple[np.ndarray, np.ndarray]]], mark: str | None = None
) -> None:
    """Error rate among the most confident images against coverage, one thin line per model."""
    with page(path, 5.2, 3, mark) as figure:
        axes = figure.subplots()
        for (name, members), colour in zip(curves.items(), (ORANGE, BLUE, RED), strict=False):
            for coverage, risk in members:
                axes.plot(100 * coverage, 100 * risk, color=colour, lw=0.8)
            axes.plot([], [], color=colour, label=name)
        axes.set(xlabel="coverage, % (most confident first)", ylabel="error rate, %")
        axes.set_xlim(0 if len(curves) > len(VIEWS) else 40, 100)
        axes.legend(frameon=False)


def sets(
    path: Path, scores: dict[str, dict], names: Sequence[str], mark: str | None = None
) -> None:
    """Coverage and mean size of the prediction sets by class; `scores` by level."""
    with page(path, 7, 3, mark) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(names))[::-1]
        for (level, score), colour, shift in zip(
            scores.items(), (BLUE, ORANGE), (0.15, -0.15), strict=True
        ):
            left.axvline(float(level), color=colour, lw=0.8, zorder=1)
            left.plot(score["coverage_by_class"], places + shift, "o", color=colour)
            right.plot(score["size_by_class"], places + shift, "o", color=colour, label=level)
        left.set_yticks(places, short(names))
        left.set_xlabel("share of sets with the true class (lines: target overall)")
        right.set_xlabel("mean number of classes in a set")
        right.legend(frameon=False, title="target")


def distances(
    path: Path, values: dict[str, np.ndarray], farthest: float, mark: str | None = None
) -> None:
    """Distance to the training images, one box per kind of image."""
    with page(path, 6.4, 0.8 + 0.32 * len(values), mark) as figure:
        axes = figure.subplots()
        places = np.arange(len(values))[::-1]
        axes.boxplot(
            list(values.values()), positions=places, orientation="horizontal", widths=0.6,
            whis=(1, 99), showfliers=False, medianprops={"color": BLUE},
        )  # fmt: skip
        axes.axvline(farthest, color=RED, lw=1)
        axes.set_yticks(places, list(values))
        axes.set(
            xscale="log",
            xlabel="distance, 1 - cosine (box: quartiles, whiskers: 1 and 99 %)\n"
            "right of the red line: flagged as unlike the training images",
        )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:.2g}")
        axes.xaxis.set_minor_formatter("")
