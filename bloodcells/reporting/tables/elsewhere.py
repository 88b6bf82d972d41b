"""Tables of how recipes do away from their training images, as Markdown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.errors import UserError
from bloodcells.evaluation import balanced_accuracy
from bloodcells.evaluation.elsewhere import NORMAL_SMEAR, SMEARS
from bloodcells.evaluation.metrics import mean_and_deviation, wilson_interval
from bloodcells.reporting.tables.commands import COMMANDS
from bloodcells.reporting.tables.common import (
    check_origin,
    deviation,
    interval,
    mark,
    percent,
    read_study,
    table,
)
from bloodcells.reporting.tables.release import read_release, read_robustness
from bloodcells.tracking.files import read_json

RELEASES = {"cnn-best": "release-best", "cnn-robust": "release"}  # presets of model_release.py
VIEWS = "8"
GROUPS = {  # of corruptions, by what `--unchanged` leaves out of training
    "colour": ("stain", "colour shift", "brightness", "contrast"),
    "sharpness": ("defocus", "motion", "pixelation"),
    "dirt": ("bubbles", "specks", "noise"),
}
FITS = {  # of the last layer: what a class's recall is of
    "released": "as released",
    "fine_tuned": "fitted",
    "without_its_labels": "fitted without labels of this class",
}
ABLATION_HEADS = (
    *("recipe", "held-out", "corrupted", "the group left out"),
    *("elsewhere, all classes possible", "only its classes possible"),
)


def elsewhere(plots: Path) -> str:
    """The recipes on official, on corrupted and on another laboratory's images."""
    found, robust = read_releases(plots), read_robustness(plots)
    there = {name: study["elsewhere"] for name, study in found.items()}
    scores = {name: part["views"][VIEWS] for name, part in there.items()}
    where = next(iter(there.values()))["name"]
    if any(part["name"] != where for part in there.values()):
        raise UserError(f"{', '.join(RELEASES.values())}: scored on different laboratories' images")
    rows = {
        "official test images: accuracy, one view": column(
            found, "views", "1", "after", "accuracy"
        ),
        "eight views": column(found, "views", VIEWS, "after", "accuracy"),
        "calibration error (ECE), eight views": column(found, "views", VIEWS, "after", "ece"),
        "corrupted test images: accuracy, one view": [
            deviation(corrupted_accuracy(robust, name)) for name in found
        ],
        "official test images framed by the nucleus: balanced accuracy, eight views": column(
            found, "framed", "balanced_accuracy"
        ),
        f"`{where}`: balanced accuracy, all classes possible": [
            f"{value} {sampling(part)}"
            for value, part in zip(column(scores, "balanced_accuracy"), there.values(), strict=True)
        ],
        "only its classes possible": column(scores, "given_classes", "balanced_accuracy"),
        "all classes possible, with `--adapt`": column(scores, "adapted"),
        "only its classes possible, with `--adapt`": column(scores, "adapted_given_classes"),
        "all classes possible, images as frequent as in normal blood": column(scores, "smear"),
        "the same, with `--adapt`": column(scores, "smear_adapted"),
        "all classes possible: calibration error (ECE)": column(scores, "ece"),
        "area under the risk-coverage curve (AURC)": column(scores, "aurc"),
        "95 % prediction sets: coverage": column(scores, "sets", "0.95", "coverage"),
        "their mean number of classes": column(scores, "sets", "0.95", "size"),
        "flagged as unlike the training images": column(scores, "unlike"),
    }
    lines = [[words, *cells] for words, cells in rows.items() if set(cells) != {"-"}]
    first = next(iter(there.values()))
    present = sum(number > 0 for number in first["counts"].values())
    seeds = len(next(iter(found.values()))["float16"]["test"]["labels_changed"])
    return "\n\n".join(
        [
            table(["", *found], lines),
            f"Mean ± standard deviation over the models of {seeds} seeds [95 % interval over "
            f"{sampled(*there.values())}]. `{where}`: "
            f"{first['images']} images ({counted(first['counts'])}), eight views; always "
            f"predicting one class has a balanced accuracy of {1 / present:.2f}. As frequent as in "
            f"normal blood: {SMEARS} random draws of {sum(NORMAL_SMEAR.values())} images, the same "
            f"for all models, over half of them neutrophils, {NORMAL_SMEAR['eosinophil']} "
            f"eosinophils and {NORMAL_SMEAR['basophil']} basophils; without `--adapt` the expected "
            "value is that of all images. `--adapt` uses the images that are scored, without their "
            "labels; ± covers the seeds, not the draws. -: not measured, or refused, as `--adapt` "
            "is where most images seem of one class. With the weights in float16, as "
            "`predict.py` has them, the last digit differs from the tables of the trained models."
            f"{mark(*found.values(), robust)}",
            answered(there["cnn-robust"]),
            "`cnn-robust`, eight views, all classes possible: recall [95 % interval over images], "
            "and the classes that at least one image in twenty is taken for.",
        ]
    )


def answered(there: dict) -> str:
    """Each class's recall on another laboratory's images, and what they are taken for."""
    lines = []
    for name, shares in there["views"][VIEWS]["answers"].items():
        others = sorted(((one["mean"], other) for other, one in shares.items()), reverse=True)
        taken = [f"{other} {one:.0%}" for one, other in others if other != name and one >= 0.05]
        count = there["counts"][name]
        ends = wilson_interval(shares[name]["mean"] * count, count)
        recall = f"{deviation(shares[name], 2)} {interval(*ends, '.2f')}"
        lines.append([name, str(count), recall, ", ".join(taken)])
    return table((f"class of `{there['name']}`", "images", "recall", "taken for"), lines)


def sampled(*there: dict) -> str:
    """What the intervals of `sampling` are over."""
    of = [f"{one['slides']} slides" if one.get("slides") else "images" for one in there]
    return ", or ".join(dict.fromkeys(of))


def fine_tuned(plots: Path) -> str:
    """What labelled images of another laboratory gain, on its slides that were held out."""
    path = plots / "finetune" / "metrics.json"
    command = COMMANDS["finetune"]
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; run {command}") from error
    check_origin(path, found)
    if not found["slides"]:
        raise UserError(f"{path}: made without --slide; run {command}")
    lines = [
        [row["class"], str(row["images"]), *(cell_of(row[key]) for key in FITS)]
        for row in found["classes"]
    ]
    whole = [
        f"{found[key]['mean']:.3f} {interval(found[key]['low'], found[key]['high'])}"
        for key in ("released", "fine_tuned")
    ]
    counts = sum(row["images"] for row in found["classes"])
    lines.append(["balanced accuracy", str(counts), *whole, ""])
    curve = ", ".join(
        f"{row['images_of_each_class']}: {deviation(row, 3)}" for row in found["curve"]
    )
    gain = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**found["gain"])
    given = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found["given_classes"])
    pairs = found["paired"]
    return "\n\n".join(
        [
            table((f"recall of `{found['dataset']['name']}`", "images", *FITS.values()), lines),
            f"Eight views, all classes of the network possible; one network, the released one. "
            f"Cross-validation over {found['slides']} slides [95 % interval over slides]: the gain "
            f"is {gain}; {pairs['only_second']} images are right only with the fit, "
            f"{pairs['only_first']} only without. With images held out at random, slides on both "
            f"sides, the score would be {found['at_random']:.3f}. As released, if only these "
            f"{len(found['classes'])} classes can occur: {given}. Fitted to at most so many random "
            "images of each class (mean ± standard deviation over draws of images and folds): "
            f"{curve}. The one setting, the pull towards the released layer, was chosen on these "
            f"images.{mark(found)}",
        ]
    )


def cell_of(share: float | None) -> str:
    """A recall; a dash where there is none."""
    return "-" if share is None else f"{share:.2f}"


def sampling(there: dict) -> str:
    """The balanced accuracy's 95 % interval: over slides if known, else over images."""
    if found := there["views"][VIEWS].get("over_slides"):
        return interval(found["low"], found["high"])
    answers = there["views"][VIEWS]["answers"]
    counts = np.array([there["counts"][name] for name in answers])
    recalls = np.array([shares[name]["mean"] for name, shares in answers.items()])
    found = balanced_accuracy.over_images(recalls * counts, counts)
    return interval(found["low"], found["high"])


def read_releases(plots: Path) -> dict[str, dict]:
    """The releases' studies, by recipe. Raises `UserError` without scores elsewhere."""
    found = {name: read_release(plots, study) for name, study in RELEASES.items()}
    for name, study in found.items():
        if "elsewhere" not in study:
            raise UserError(
                f"{plots / RELEASES[name]}: no scores elsewhere; rerun {COMMANDS[RELEASES[name]]}"
            )
    return found


def corrupted_accuracy(robust: dict, name: str) -> dict[str, float | None]:
    """A recipe's mean accuracy over all corruptions and severities, over its models."""
    rows = robust["rows"][1:]
    return mean_and_deviation(np.mean([row["accuracy"][name] for row in rows], axis=0).tolist())


def column(scores: dict[str, dict], *keys: str) -> list[str]:
    """One score of each recipe, a dash where it has none."""
    cells = []
    for found in scores.values():
        for key in keys:
            found = found.get(key, {})
        cells.append(deviation(found) if found else "-")
    return cells


def counted(counts: dict[str, int]) -> str:
    """How many images of each class there are."""
    return ", ".join(f"{number} {name}s" for name, number in counts.items() if number)


def ablation(plots: Path) -> str:
    """What each part of cnn-robust contributes, at home, under corruption and elsewhere."""
    found = read_study(plots, "ablation-robust")
    config, (whole, *others) = found["config"], found["variants"]
    if not all(row["elsewhere"] for row in found["variants"]):
        raise UserError(
            f"{plots}/ablation-robust: no scores elsewhere; rerun {COMMANDS['ablation-robust']}"
        )
    lines = [[whole["name"], *map(percent, scores_of(whole))]]
    lines[0].insert(3, "")
    for row in others:
        changes = [
            percent(np.subtract(mine, its), "+")
            for mine, its in zip(scores_of(row), scores_of(whole), strict=True)
        ]
        group = GROUPS.get(row["changes"].get("unchanged", ""), ())
        of_group = group_left_out(row, whole, group) if group else ""
        lines.append([row["name"], *changes[:2], of_group, *changes[2:]])
    return "\n\n".join(
        [
            table(ABLATION_HEADS, lines),
            "The whole recipe in %, the others' change in points on the same images; mean ± "
            f"standard deviation over {config['replicates']} folds of train + validation; "
            f"{config['epochs']} epochs, widths {config['widths']}. Held-out: accuracy "
            f"with {config['views']} views. Corrupted: with one view, over the 11 corruptions at 5 "
            f"severities of {found['corrupted_images']} held-out images a fold; the group left "
            "out: the same over the corruptions like the changes left out, in brackets the whole "
            f"recipe's accuracy. Elsewhere: balanced accuracy on `{found['elsewhere']}`, "
            f"{config['views']} views, classes taken as equally frequent, without a temperature as "
            "released networks have it; choices were made on it. "
            f"The test split was not read.{mark(found)}",
        ]
    )


def scores_of(row: dict) -> list[list[float]]:
    """A variant's scores by fold: held-out, corrupted, and the two elsewhere."""
    return [
        row["accuracy"],
        [float(np.mean(list(kinds.values()))) for kinds in row["corrupted"]],
        *([part[key] for part in row["elsewhere"]] for key in ("all", "given")),
    ]


def group_left_out(row: dict, whole: dict, group: tuple[str, ...]) -> str:
    """The change of accuracy under some corruptions; in brackets that of the whole recipe."""
    mine, its = (
        [np.mean([kinds[kind] for kind in group]) for kinds in part["corrupted"]]
        for part in (row, whole)
    )
    return f"{percent(np.subtract(mine, its), '+')} ({100 * np.mean(its):.2f})"
