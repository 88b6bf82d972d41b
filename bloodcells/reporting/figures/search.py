"""Figures of a hyper-parameter search, from its cells, in the style of `style.py`."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from bloodcells.reporting.figures.style import BLUE, GREY, ORANGE, RED, page


def heat_maps(path: Path, cells: list[dict], covers_all: bool, watermark: str | None) -> None:
    """Accuracy by batch size and learning rate, one map per number of epochs.

    `covers_all` says whether one training has the scores of all maps.
    """
    sizes, rates, lengths = (
        sorted({cell["settings"][name] for cell in cells})
        for name in ("batch_size", "lr", "epochs")
    )
    with page(path, 3.5 * len(lengths), 2.8, watermark) as figure:
        maps = figure.subplots(1, len(lengths), squeeze=False)[0]
        for axes, epochs in zip(maps, lengths, strict=True):
            grid = np.full((len(sizes), len(rates)), np.nan)
            for cell in (c for c in cells if c["settings"]["epochs"] == epochs and c["accuracy"]):
                row, column = (
                    sizes.index(cell["settings"]["batch_size"]),
                    rates.index(cell["settings"]["lr"]),
                )
                values = cell["accuracy"]
                grid[row, column] = np.mean(values)
                text = f"{np.mean(values):.3f}"
                text += f"\n± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
                if cell["diverged"]:
                    grid[row, column], text = 0, "diverged"
                if not cell["complete"]:  # explained by the note below
                    text += f"\n({len(values)})"
                colour = "white" if grid[row, column] > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", size=7.5, color=colour)
            picture = axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
            axes.set_yticks(range(len(sizes)), sizes)
            axes.set(xlabel="learning rate", ylabel="batch size", title=f"at most {epochs} epochs")
        note = "mean ± standard deviation over a trial's models; in brackets: how many, if not all"
        if covers_all:
            note += "\none training has the scores of all maps: they are equal if it stopped early"
        figure.supxlabel(note, size=7)
        figure.colorbar(picture, ax=maps.tolist(), shrink=0.8, label="held-out accuracy")


def history(path: Path, cells: list[dict], objective: str, watermark: str | None) -> None:
    """Each trial's score in order, and the best so far."""
    scored = (cell for cell in cells if cell["score"] is not None)
    by_trial = {  # the best cell of each
        cell["trial"]: cell for cell in sorted(scored, key=lambda cell: cell["score"])
    }
    rows = [by_trial[number] for number in sorted(by_trial)]
    sign = 1 if objective == "accuracy" else -1
    with page(path, 5.2, 2.8, watermark) as figure:
        axes = figure.subplots()
        for name, complete, colour in (
            ("complete: mean of all models", True, BLUE),
            ("pruned or failed: mean of those trained", False, ORANGE),
        ):
            part = [row for row in rows if row["complete"] == complete]
            x, y = [row["trial"] for row in part], [sign * row["score"] for row in part]
            axes.plot(x, y, "o", color=colour, label=name, ms=4)
        done = [row for row in rows if row["complete"]]
        so_far = sign * np.maximum.accumulate([row["score"] for row in done])
        trials, best = [row["trial"] for row in done], list(so_far)
        if done:  # to the last trial
            trials, best = [*trials, rows[-1]["trial"]], [*best, best[-1]]
        axes.step(trials, best, where="post", color=GREY, label="best so far", lw=1, zorder=1)
        axes.set(xlabel="trial", ylabel=f"held-out {objective}")
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        axes.legend(frameon=False, fontsize=7.5)


def learning_curves(path: Path, curves: dict[str, list[dict]], watermark: str | None) -> None:
    """Held-out and training loss of every model of a trial, one panel per trial."""
    with page(path, 3.5 * len(curves), 2.8, watermark) as figure:
        for axes, (name, folds) in zip(
            figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
        ):
            for fold in folds:
                epochs = range(1, len(fold["val_loss"]) + 1)
                axes.plot(epochs, fold["train_loss"], color=BLUE, lw=0.8)
                axes.plot(epochs, fold["val_loss"], color=ORANGE, lw=0.8)
                if fold["diverged"] and fold["val_loss"]:
                    axes.plot(len(epochs), fold["val_loss"][-1], "x", color=RED)
            axes.plot([], [], color=BLUE, label="training")
            axes.plot([], [], color=ORANGE, label="held out")
            axes.set_title(textwrap.fill(name, 48), size=7.5)
            axes.set(xlabel="epoch", ylabel="loss (log scale)", yscale="log")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False, fontsize=7.5)
