"""Figures across experiments: ablation, accuracy against training time, speed.

Drawn from saved rows in the style of `style.py`; a `watermark` is printed across the top, as there.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.ticker import NullLocator

from bloodcells.reporting.figures.style import BLUE, COLOURS, GREY, ORANGE, error_bars, page

FEW_IMAGES = 30  # with fewer images, a bar is grey
ERRORS = (1, 2, 3, 4, 5, 7, 10, 12)  # positions of ticks, %


def ablation(path: Path, rows: list[dict], watermark: str | None) -> None:
    """Percentage points gained by each change to a recipe: a dot per run, a bar for their mean.

    One panel for each kind of images of which the rows have scores.
    """
    scores = {"held-out images, accuracy": [row["accuracy"] for row in rows]}
    if rows[0].get("corrupted"):
        scores["corrupted ones, one view"] = [
            [np.mean(list(kinds.values())) for kinds in row["corrupted"]] for row in rows
        ]
    if rows[0].get("elsewhere"):
        scores["another laboratory, mean recall"] = [
            [part["all"] for part in row["elsewhere"]] for row in rows
        ]
    changed = rows[1:] or rows
    places = np.arange(len(changed))[::-1]
    with page(path, 2.8 + 2.4 * len(scores), 1.3 + 0.28 * len(changed), watermark) as figure:
        panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
        for axes, (name, values) in zip(panels, scores.items(), strict=True):
            changes = 100 * (np.array(values[-len(changed) :]) - values[0])
            axes.barh(places, changes.mean(1), color=BLUE, alpha=0.35)
            axes.plot(changes, np.repeat(places[:, None], changes.shape[1], 1), ".", color=BLUE)
            axes.axvline(0, color=GREY, lw=0.8)
            axes.set(title=f"{name}\n{rows[0]['name']}: {100 * np.mean(values[0]):.1f} %")
        panels[0].set_yticks(places, [row["name"] for row in changed])
        folds = len(rows[0]["accuracy"])
        words = f"change in points against the {rows[0]['name']}; bar: mean, dots: {folds} folds"
        figure.supxlabel(words, size=8)


def batch_recall(path: Path, rows: list[dict], watermark: str | None) -> None:
    """Recall of each class: of the first batch, and of the second without and with others of it."""
    shown = {
        "first_batch": ("first batch, test split", GREY, "o"),
        "new_without": ("second batch, left out of training", ORANGE, "D"),
        "new_with": ("second batch, others of it trained on", BLUE, "s"),
    }
    with page(path, 6, 1.5 + 0.36 * len(rows), watermark) as figure:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1, None]
        for offset, (key, (words, colour, marker)) in zip(
            (0.25, 0, -0.25), shown.items(), strict=True
        ):
            values = 100 * np.array([row[key] for row in rows])
            at = np.broadcast_to(places + offset, values.shape)
            axes.plot(values, at, ".", color=colour, ms=3)
            middle, numbers = values.mean(1), [row["images"][key.split("_")[0]] for row in rows]
            axes.errorbar(
                middle, at[:, 0], xerr=100 * error_bars(middle / 100, numbers), fmt=marker,
                color=colour, alpha=0.6, lw=0, elinewidth=0.8, label=words,
            )  # fmt: skip
        names = [
            f"{row['class']} ({row['images']['first']}, {row['images']['new']})" for row in rows
        ]
        axes.set_yticks(places[:, 0], names)
        seeds = len(rows[0]["first_batch"])
        words = f"recall, %; marker: mean of {seeds} seeds (dots)"
        axes.set_xlabel(f"{words}\nline: its 95 % interval for the images alone", size=8)
        axes.set_xlim(-3, 103)
        axes.set_ylabel("class (images of the first, of the second batch)", size=7)
        figure.legend(loc="outside lower center", ncols=3, fontsize=7)


def stage_errors(path: Path, rows: list[dict]) -> None:
    """Test error of `cnn-best` by stage: each stage's rate, and its share of all errors."""
    total = sum(row["errors"] for row in rows)
    with page(path, 6.4, 3.6, None) as figure:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        rates = [row["error"] for row in rows]
        bars = axes.barh(
            places,
            100 * np.array(rates),
            xerr=100 * error_bars(rates, [row["images"] for row in rows]),
            color=[BLUE if row["images"] >= FEW_IMAGES else GREY for row in rows],
            alpha=0.6,
            error_kw={"lw": 0.8, "ecolor": GREY},
        )
        labels = [
            f"{row['errors'] / total:.0%} of all errors" if row["errors"] else "none"
            for row in rows
        ]
        axes.bar_label(bars, labels, padding=3, size=7)
        axes.set_yticks(places, [f"{row['stage']} ({row['images']})" for row in rows])
        axes.set(xlabel="error rate, %", xlim=(0, 1.3 * axes.get_xlim()[1]))
        figure.supxlabel(
            "cnn-best, eight views, mean over its models; line: 95 % interval over images; in "
            f"brackets: test images (grey: fewer than {FEW_IMAGES})",
            size=7,
        )


def name_offset(ours: bool, to_the_right: bool) -> tuple[int, int]:
    """Where a point's name is, from the point, in typographic points."""
    if not to_the_right:
        return -5, -3
    return (5, -3) if ours else (-20, -12)  # below, as other names are beside it


def ladder(path: Path, points: list[dict]) -> None:
    """Test error against parameters and against training time, ours and published; best on top."""
    with page(path, 7.5, 3.6, None) as figure:
        for axes, key, label in zip(
            figure.subplots(1, 2, sharey=True),
            ("parameters", "train_seconds"),
            ("parameters", "training, seconds per model"),
            strict=True,
        ):
            shown = [point for point in points if point[key] is not None]
            middle = np.sqrt(min(p[key] for p in shown) * max(p[key] for p in shown))
            for point in shown:
                colour = BLUE if point["ours"] else GREY
                at = point[key], 100 * (1 - point["accuracy"])
                leftmost = point[key] == min(p[key] for p in shown)  # others may be close to it
                name_to_the_right = (point["ours"] or point[key] < middle) and not leftmost
                axes.plot(*at, "o", color=colour, mfc=colour if point["ours"] else "white")
                if point["ours"]:
                    errors = [100 * (1 - share) for share in point["interval"]]
                    axes.plot([at[0]] * 2, errors, color=colour, lw=0.8)
                    axes.plot(at[0], 100 * (1 - point["one_view"]), "_", color=colour, ms=9)
                axes.annotate(
                    point["name"],
                    at,
                    name_offset(point["ours"], name_to_the_right),
                    textcoords="offset points",
                    ha="left" if name_to_the_right else "right",
                    color=colour,
                    size=7,
                )
            axes.set(xscale="log", xlabel=label, yscale="log")
            axes.margins(x=0.17)
        axes.set_yticks(ERRORS, [f"{100 - error:g}" for error in ERRORS])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.invert_yaxis()
        figure.axes[0].set_ylabel("test accuracy, % (log scale of the error)")
        figure.supxlabel(
            "filled: ours (15 to 200: cnn-fast-15 to -200), eight views (paper: one); line: 95 % "
            "interval over test images; dash: one view\nhollow: published elsewhere, ResNet-18 but "
            "for the small CNN of 0.3 M parameters; one view\n(tomrussobuilds: pretrained, "
            "several); their times are not known",
            size=7,
        )


def label_curve(path: Path, found: dict, watermark: str | None = None) -> None:
    """Balanced accuracy against the labelled images that a last layer is fitted to."""
    rows, fewest = found["curve"], min(row["images"] for row in found["classes"])
    over = f"{found['slides']} slides" if found["slides"] else "images"
    images = sum(row["images"] for row in found["classes"])
    with page(path, 4.6, 3.2, watermark) as figure:
        axes = figure.subplots()
        released = found["released"]
        axes.axhspan(100 * released["low"], 100 * released["high"], color=GREY, alpha=0.2, lw=0)
        axes.axhline(100 * released["mean"], color=GREY)
        shots = [row["images_of_each_class"] for row in rows]
        means, spreads = (100 * np.array([row[key] for row in rows]) for key in ("mean", "std"))
        axes.errorbar(shots, means, spreads, marker="o", color=BLUE, capsize=2)
        whole = {key: 100 * value for key, value in found["fine_tuned"].items()}
        ends = [[whole["mean"] - whole["low"]], [whole["high"] - whole["mean"]]]
        axes.errorbar([0.8 * fewest], [whole["mean"]], ends, marker="s", color=ORANGE, capsize=2)
        ticks = [*shots, 0.8 * fewest]
        axes.set(xscale="log", xlabel="labelled images of each class (of the rarest, orange)")
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylabel("balanced accuracy, %")
        figure.supxlabel(
            "grey: as released; blue: at most so many random images, ± over draws\n"
            f"orange: all but those held out, of {images}; grey, orange: 95 % interval over {over}",
            size=7,
        )


def network_speed(path: Path, rows: list[dict], watermark: str | None) -> None:
    """Share of peak speed by network and pass, and images per second by batch size."""
    with page(path, 7, 3, watermark) as figure:
        peak, rate = figure.subplots(1, 2)
        for place, part in enumerate(("forward", "backward", "step")):
            at = np.arange(len(rows)) + (place - 1) * 0.27
            shares = [100 * row[part]["share_of_peak"] for row in rows]
            shade = str(0.8 - 0.3 * place)  # colours are of networks, in the other panel
            peak.bar(at, shares, 0.25, color=shade, label=part)
        names = [f"{row['name']}\n{row['precision']}\nbatch {row['batch']}" for row in rows]
        peak.set_xticks(range(len(rows)), names, size=6)
        peak.axhline(100, color=GREY, lw=0.8)
        peak.set(ylabel="% of the speed of matrix products", ylim=(0, 125))
        peak.legend(frameon=False, fontsize=8, loc="upper left", ncols=3)
        for row, colour in zip(rows, itertools.cycle(COLOURS)):
            for what, style in (("trained", "-"), ("predicted", ":")):
                rates = {int(n): value for n, value in row[f"{what}_images_per_second"].items()}
                rate.loglog(list(rates), list(rates.values()), style, color=colour)
            last = max(rates)
            rate.annotate(row["name"], (last, rates[last]), (3, 0), textcoords="offset points",
                          color=colour, size=8)  # fmt: skip
        rate.set(xlabel="batch size", ylabel="images per second", xlim=(0.8, 4000))
        rate.set_title("solid: training, dotted: prediction")


def operators(path: Path, rows: list[dict], watermark: str | None) -> None:
    """Milliseconds of a training step by torch operator, and at the speed of matrix products."""
    with page(path, 7, 1.9 * -(-len(rows) // 2), watermark) as figure:
        panels = figure.subplots(-(-len(rows) // 2), 2, squeeze=False).flat
        for axes, row in itertools.zip_longest(panels, rows):
            if row is None:
                axes.set_axis_off()
                continue
            names = list(row["operators"])[:6]
            times = [1e3 * row["step"]["seconds"] * row["operators"][name] for name in names]
            short = [name.removeprefix("aten::").replace("_with_indices", "") for name in names]
            axes.barh(short, times, color=BLUE)
            for place, name in enumerate(names):
                if least := row["operator_gflop"].get(name):
                    at = 1e3 * least / row["peak_gflops"]
                    axes.plot([at, at], [place - 0.45, place + 0.45], color="black")
            axes.invert_yaxis()
            axes.tick_params(labelsize=7)
            axes.set_title(f"{row['name']}, {row['precision']}", size=8)
            axes.set_xlabel("ms of a step", size=7)
        figure.supxlabel(
            "A training step's time by operator; black line: at the speed of matrix products",
            size=7,
        )


def growth(path: Path, found: dict[str, dict], watermark: str | None) -> None:
    """How time grows: one panel per quantity, {name: {setting: seconds}}.

    Both axes are logarithmic, with decades of equal length in all panels.
    """
    with page(path, 8, 3, watermark) as figure:
        for axes, (name, times) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
            what, by = name.replace("_", " ").split(" by ")
            sizes = [sum(map(int, str(key).split("-"))) for key in times]  # of widths, their sum
            axes.loglog(sizes, list(times.values()), "o-", color=BLUE)
            for size, value in zip(sizes, times.values(), strict=True):
                axes.annotate(f"{value:.3g}", (size, value), (5, -9), textcoords="offset points",
                              size=7)  # fmt: skip
                around = [(size / 1.3, value / 1.3), (size * 1.3, value * 1.3)]
                axes.update_datalim(around)  # equal decades may cut margins, but no data
            axes.set(xlabel=by.replace("pixels", "pixels on a side"), ylabel=what, yticks=[])
            axes.set_xticks(sizes, [str(key) for key in times], size=6, rotation=20)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_minor_locator(NullLocator())  # each point has its value beside it
            axes.set_aspect("equal", adjustable="datalim")
        figure.supxlabel(
            "CellNet; both axes logarithmic: a diagonal is growth in proportion; "
            "of widths, x is their sum",
            size=7,
        )
