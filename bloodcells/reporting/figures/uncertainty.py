"""Figures of calibration, abstention, prediction sets and out-of-distribution images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator

from bloodcells.data.bloodmnist import Split
from bloodcells.evaluation import calibration
from bloodcells.inference.cards import VIEWS
from bloodcells.reporting.figures.style import BLUE, GREY, ORANGE, RED, error_bars, page, short

FEW_IMAGES = 20  # a bin of fewer images is drawn hollow


def draw_all(
    folder: Path,
    suffix: str,
    members: list[dict],
    test: Split,
    watermark: str | None,
    there: tuple[np.ndarray, list[np.ndarray]] | None,
) -> None:
    """All figures of `uncertainty.measure`'s members, one per seed.

    A figure of one model shows the first member, which is the released one. `there`: the labels of
    images elsewhere, and each member's probabilities of them.
    """
    best, labels, names = members[0]["views"][max(VIEWS)], test.labels, test.names

    def path(name: str) -> Path:
        return folder / f"{name}.{suffix}"

    bins = {
        when: calibration.reliability(labels, best["probabilities"][when])
        for when in ("before", "after")
    }
    reliability(path("reliability"), bins, watermark)
    curves = {
        views: [
            calibration.risk_coverage(labels, m["views"][views]["probabilities"]["after"])
            for m in members
        ]
        for views in VIEWS
    }
    panels = {"test images": curves}
    if there is not None:
        found = [calibration.risk_coverage(there[0], p) for p in there[1]]
        name = f"another laboratory, {len(there[0])} images"
        panels[name] = {max(VIEWS): found}
    risk_coverage(path("risk_coverage"), panels, watermark)
    counts = np.bincount(labels, minlength=len(names))
    sets(path("sets"), best["set_scores"], names, counts, watermark)
    distances(path("unlike"), members, watermark)


def reliability(path: Path, bins: dict[str, list[dict]], watermark: str | None) -> None:
    """Accuracy against confidence in bins, before and after temperature scaling."""
    with page(path, 6.4, 3.2, watermark) as figure:
        for axes, (when, rows) in zip(
            figure.subplots(1, 2, sharey=True), bins.items(), strict=True
        ):
            x, y, n = (np.array([r[k] for r in rows]) for k in ("confidence", "accuracy", "images"))
            axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
            axes.errorbar(x, y, error_bars(y, n), fmt="none", color=BLUE, lw=0.8)
            for some, inside in ((n >= FEW_IMAGES, BLUE), (n < FEW_IMAGES, "white")):
                axes.plot(x[some], y[some], "o", color=BLUE, mfc=inside, ms=4)
            axes.set(xlabel="probability of the top class", title=f"{when} temperature scaling")
            axes.set(ylim=(-0.03, 1.03))
            words = f"last bin: {n[-1] / n.sum():.0%} of {n.sum():,} images"
            axes.text(0.98, 0.03, words, transform=axes.transAxes, ha="right", size=7)
        figure.axes[0].set_ylabel("accuracy")
        figure.supxlabel(
            f"one model, {max(VIEWS)} views; line: 95 % interval; hollow: a bin of fewer than "
            f"{FEW_IMAGES} images",
            size=7,
        )


def risk_coverage(
    path: Path,
    panels: dict[str, dict[int, list[tuple[np.ndarray, np.ndarray]]]],
    watermark: str | None,
) -> None:
    """Error rate among the most confident images against coverage, one thin line per model.

    `panels`: by images, and by the number of views. Each panel has a scale of its own.
    """
    with page(path, 1.6 + 3.2 * len(panels), 3, watermark) as figure:
        for axes, (name, curves) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for views, colour in zip(VIEWS, (ORANGE, BLUE), strict=True):
                label = f"{views} view{'s' * (views > 1)}"
                for coverage, risk in curves.get(views, []):
                    axes.plot(100 * coverage, 100 * risk, color=colour, lw=0.8, label=label)
                    label = ""  # the first line stands for all of them
            axes.set(title=name, ylabel="error rate, %", xlim=(0, 100), ylim=(0, None))
            axes.legend(frameon=False)
        words = "coverage, % (most confident first); a line per model"
        figure.supxlabel(words + "; scales differ" * (len(panels) > 1), size=8)


def sets(
    path: Path,
    scores: dict[str, dict],
    names: Sequence[str],
    counts: np.ndarray,
    watermark: str | None,
) -> None:
    """Coverage and mean size of the prediction sets by class; `scores` by level.

    `counts`: the classes' images.
    """
    with page(path, 7, 3, watermark) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(names))[::-1]
        for (level, score), colour, shift in zip(
            scores.items(), (BLUE, ORANGE), (0.15, -0.15), strict=True
        ):
            left.axvline(float(level), color=colour, lw=0.8, zorder=1)
            covered = np.array(score["coverage_by_class"])
            left.errorbar(
                covered, places + shift, xerr=error_bars(covered, counts), fmt="o", ms=4,
                color=colour, elinewidth=0.8,
            )  # fmt: skip
            right.plot(score["size_by_class"], places + shift, "o", color=colour, label=level)
        labels = [f"{name} ({n})" for name, n in zip(short(names), counts, strict=True)]
        left.set_yticks(places, labels)
        left.set_xlabel("share of sets with the true class", size=8)
        right.set_xlabel("mean number of classes in a set", size=8)
        right.legend(frameon=False, title="target")
        figure.supxlabel(
            f"one model, {max(VIEWS)} views; vertical lines: target overall; horizontal: 95 % "
            "interval; in brackets: test images; below 1: some sets are empty",
            size=7,
        )


def distances(path: Path, members: list[dict], watermark: str | None) -> None:
    """The first model's distances to the training images, one box per kind of image.

    Beside each, the share that is flagged as unlike them, by that model and by all.
    """
    values, farthest = members[0]["distances"], members[0]["farthest"]
    with page(path, 7.4, 1.2 + 0.32 * len(values), watermark) as figure:
        axes = figure.subplots()
        places = np.arange(len(values))[::-1]
        axes.boxplot(
            list(values.values()), positions=places, orientation="horizontal", widths=0.6,
            whis=(1, 99), showfliers=False, medianprops={"color": BLUE},
        )  # fmt: skip
        axes.axvline(farthest, color=RED, lw=1)
        axes.set_yticks(places, [f"{kind} ({len(part)})" for kind, part in values.items()])
        axes.set(
            xscale="log",
            xlabel="distance, 1 - cosine (box: quartiles, whiskers: 1 and 99 %); in brackets: "
            "images\nright of the orange line: flagged as unlike the training images",
        )
        for place, kind in zip(places, values, strict=True):
            shares = [100 * np.mean(m["distances"][kind] > m["farthest"]) for m in members]
            words = f"{shares[0]:.0f} %"
            if len(shares) > 1:
                words += f" (all models: {np.mean(shares):.0f} ± {np.std(shares, ddof=1):.0f} %)"
            axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), size=7, va="center")
        axes.text(
            1.02, 1.01, "flagged by this model", transform=axes.transAxes, va="bottom", size=7
        )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:.2g}")
        axes.xaxis.set_minor_formatter("")
