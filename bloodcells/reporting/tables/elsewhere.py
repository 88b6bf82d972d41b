"""Tables of how recipes do away from their training images, as Markdown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.errors import UserError
from bloodcells.evaluation.elsewhere import NORMAL_SMEAR, SMEARS
from bloodcells.evaluation.metrics import mean_and_deviation
from bloodcells.reporting.studies import STUDIES
from bloodcells.reporting.tables.cells import (
    deviation,
    interval,
    mean_and_interval,
    percent,
    table,
)
from bloodcells.reporting.tables.reading import older_code, read_results, read_study
from bloodcells.reporting.tables.release import TRAINED_ON, read_robustness
from bloodcells.training.domain_randomisation import CHANGES

RELEASES = {"cnn-best": "release-best", "cnn-robust": "release"}  # presets of model_release.py
VIEWS = "8"
DEVELOPMENT = "chula_wbc"  # the images of another laboratory that choices were made on
PULL_CHOSEN = " The one setting, the pull towards the released layer, was chosen on these images."
SAME = ("name", "images", "counts", "slide", "slides")  # of the images that releases are scored on
GROUP_OF = {change.__name__: group for change, _, group in CHANGES}  # as `--unchanged` names it
THERE = {  # what else is scored on another laboratory's images, and where it is stored
    "only its classes possible": ("given_classes", "balanced_accuracy"),
    "all classes possible, with `--adapt`": ("adapted",),
    "only its classes possible, with `--adapt`": ("adapted_given_classes",),
    "all classes possible, images as frequent as in normal blood": ("smear",),
    "all classes possible, as frequent as in normal blood, with `--adapt`": ("smear_adapted",),
    "all classes possible: calibration error (ECE)": ("ece",),
    "area under the risk-coverage curve (AURC)": ("aurc",),
    "coverage of 95 % prediction sets": ("sets", "0.95", "coverage"),
    "mean number of classes of those sets": ("sets", "0.95", "size"),
    "share flagged as unlike the training images": ("unlike",),
}
SIZE_LOST = ("erythroblast", "immature granulocyte", "platelet")  # told apart by size, too
FITS = {  # of the last layer: what a class's recall is of
    "released": "as released",
    "fine_tuned": "fitted",
    "without_its_labels": "fitted without labels of this class",
}
ABLATION_HEADS = (
    *("recipe", "held-out", "corrupted", "corruptions like what is left out"),
    *("elsewhere, all classes possible", "only its classes possible"),
)


def elsewhere(plots: Path) -> str:
    """The recipes on official, on corrupted and on another laboratory's images."""
    found, robust = read_releases(plots), read_robustness(plots)
    there = {name: study["elsewhere"] for name, study in found.items()}
    first = next(iter(there.values()))
    if any(part[key] != first[key] for part in there.values() for key in SAME):
        raise UserError(f"{', '.join(RELEASES.values())}: scored on different images elsewhere")
    rows = rows_at_home(found, robust) | rows_elsewhere(there)
    lines = [[words, *cells] for words, cells in rows.items() if set(cells) != {"-"}]
    seeds = len(next(iter(found.values()))["float16"]["test"]["labels_changed"])
    return "\n\n".join(
        [
            table(["", *found], lines),
            explanation(first, seeds, found["cnn-robust"]["framed"]["left_out"])
            + older_code(*found.values(), robust),
            recall_table(there["cnn-robust"]),
            "`cnn-robust`, eight views, all classes possible: recall [95 % interval over slides, "
            "too narrow for fewer than ten], "
            "and the classes that at least one image in twenty is taken for.",
        ]
    )


def rows_at_home(found: dict[str, dict], robust: dict) -> dict[str, list[str]]:
    """The rows on the data set's own test images: their cells, by name."""
    official = "official test images"
    framed = f"{official} framed by the nucleus, eight views"
    rows = {
        f"{official}: accuracy, one view": column(found, "views", "1", "after", "accuracy"),
        f"{official}: accuracy, eight views": column(found, "views", VIEWS, "after", "accuracy"),
        f"{official}: calibration error (ECE), eight views": column(
            found, "views", VIEWS, "after", "ece"
        ),
        "corrupted test images: accuracy, one view": [
            deviation(corrupted_accuracy(robust, name)) for name in found
        ],
        f"{framed}: balanced accuracy": column(found, "framed", "balanced_accuracy"),
    }
    for name in SIZE_LOST:
        rows[f"{framed}: recall of {name}s"] = column(found, "framed", "recalls", name)
    return rows


def rows_elsewhere(there: dict[str, dict]) -> dict[str, list[str]]:
    """The rows on another laboratory's images: their cells, by name."""
    where = next(iter(there.values()))["name"]
    scores = {name: part["views"][VIEWS] for name, part in there.items()}
    balanced = [
        f"{deviation(part['balanced_accuracy'])} {over_slides(part)}" for part in scores.values()
    ]
    rows = {"balanced accuracy, all classes possible": balanced}
    rows |= {words: column(scores, *keys) for words, keys in THERE.items()}
    return {f"`{where}`: {words}": cells for words, cells in rows.items()}


def explanation(there: dict, seeds: int, left_out: dict[str, int]) -> str:
    """What the columns and rows are."""
    present, lost = {name for name, number in there["counts"].items() if number}, counted(left_out)
    return (
        f"Mean ± standard deviation over the models of {seeds} seeds [95 % interval over "
        f"{there['slides']} slides]. `{there['name']}`: {there['images']} images "
        f"({counted(there['counts'])}), eight views; always predicting one class has a "
        f"balanced accuracy of {1 / len(present):.2f}. {of_normal_blood(there, present)}"
        + (f"Framed by the nucleus: without {lost}, in which none is found. " if lost else "")
        + "`--adapt` uses the images that are scored, without their "
        "labels. A dash: not measured, or `--adapt` "
        "refused, since most images seem to be of one class. With the weights in float16, as "
        "`predict.py` has them, the last digit differs from the tables of the trained models."
    )


def of_normal_blood(there: dict, present: set[str]) -> str:
    """What the draws with the frequencies of normal blood are; empty if there are none."""
    if "smear" not in there["views"][VIEWS]:
        return ""
    expected = "; without `--adapt` the expected value is that of all images"
    spread = "; ± covers the seeds, not the draws"
    return (
        f"As frequent as in normal blood: {SMEARS} random draws of {sum(NORMAL_SMEAR.values())} "
        "images, the same for all models, over half of them neutrophils, "
        f"{NORMAL_SMEAR['eosinophil']} eosinophils and {NORMAL_SMEAR['basophil']} basophils"
        + (expected if present == set(NORMAL_SMEAR) else "")
        + f"{spread}. "
    )


def recall_table(there: dict) -> str:
    """Each class's recall on another laboratory's images, and what they are taken for."""
    lines, scores = [], there["views"][VIEWS]
    for name, shares in scores["answers"].items():
        others = sorted(((one["mean"], other) for other, one in shares.items()), reverse=True)
        taken = [f"{other} {one:.0%}" for one, other in others if other != name and one >= 0.05]
        found = scores["recalls_over_slides"][name]
        recall = f"{deviation(shares[name], 2)} {interval(found['low'], found['high'], '.2f')}"
        numbers = [str(there[key][name]) for key in ("counts", "slides_by_class")]
        lines.append([name, *numbers, recall, ", ".join(taken)])
    heads = (f"class of `{there['name']}`", "images", "slides", "recall", "taken for")
    return table(heads, lines)


def fine_tuned(plots: Path) -> str:
    """What labelled images of another laboratory gain, on its slides that were held out."""
    found = read_results(plots, "finetune")
    released = found["config"]["weights"] == "cnn-robust.safetensors"
    if not (found["slides"] and released):
        command = STUDIES["finetune"].command
        why = "made without --slide" if released else "other weights than the released ones"
        raise UserError(f"{plots}/finetune: {why}; run {command}")
    lines = [
        [row["class"], str(row["images"]), *(cell_of(row[key]) for key in FITS)]
        for row in found["classes"]
    ]
    whole = [mean_and_interval(found[key]) for key in ("released", "fine_tuned")]
    counts = sum(row["images"] for row in found["classes"])
    lines.append(["balanced accuracy", str(counts), *whole, ""])
    curve = ""
    if found["curve"]:
        first, *rest = ((row["images_of_each_class"], deviation(row, 3)) for row in found["curve"])
        curve = (
            f" Fitted to at most {first[0]} random images of each class: {first[1]}; "
            + "; ".join(f"{count}: {score}" for count, score in rest)
            + " (mean ± standard deviation over draws of images and folds)."
        )
    gained = mean_and_interval(found["gain"], "+.3f")
    given, pairs = mean_and_interval(found["given_classes"]), found["paired"]
    return "\n\n".join(
        [
            table((f"recall of `{found['dataset']['name']}`", "images", *FITS.values()), lines),
            "Eight views, all classes of the network possible; one network, the released one. "
            f"Cross-validation over {found['slides']} slides [95 % interval over slides]: the gain "
            f"is {gained}; {pairs['only_second']} images are right only with the fit, "
            f"{pairs['only_first']} only without. Were images held out at random, so that a slide "
            f"is on both sides, the score would be {found['at_random']:.3f}. As released, if only "
            f"these {len(found['classes'])} classes can occur: {given}.{curve}"
            + (PULL_CHOSEN if found["dataset"]["name"] == DEVELOPMENT else "")
            + older_code(found),
        ]
    )


def cell_of(share: float | None) -> str:
    """A recall; a dash where there is none."""
    return "-" if share is None else f"{share:.2f}"


def over_slides(scores: dict, form: str = ".3f") -> str:
    """The 95 % interval of the balanced accuracy, over slides."""
    found = scores["over_slides"]
    return interval(found["low"], found["high"], form)


def read_releases(plots: Path) -> dict[str, dict]:
    """The releases' studies, by recipe. Raises `UserError` without scores on slides elsewhere."""
    found = {name: read_study(plots, study) for name, study in RELEASES.items()}
    for name, study in found.items():
        if not study.get("elsewhere", {}).get("slides"):
            path, command = plots / RELEASES[name], STUDIES[RELEASES[name]].command
            raise UserError(f"{path}: no scores on slides elsewhere; rerun {command}")
    return found


def corrupted_accuracy(robust: dict, name: str) -> dict[str, float | None]:
    """A recipe's mean accuracy over all corruptions and severities, over its models."""
    rows = robust["rows"][1:]
    return mean_and_deviation(np.mean([row["accuracy"][name] for row in rows], axis=0).tolist())


def column(scores: dict[str, dict], *keys: str) -> list[str]:
    """One score of each recipe, a dash where it has none."""
    cells = []
    for value in scores.values():
        for key in keys:
            value = value.get(key, {})
        cells.append(deviation(value) if value else "-")
    return cells


def counted(counts: dict[str, int]) -> str:
    """How many images of each class there are."""
    return ", ".join(f"{number} {name}s" for name, number in counts.items() if number)


def ablation(plots: Path) -> str:
    """What each part of cnn-robust contributes, at home, under corruption and elsewhere."""
    found = read_study(plots, "ablation-robust")
    config, (whole, *others) = found["config"], found["variants"]
    if not all(row["elsewhere"] for row in found["variants"]):
        command = STUDIES["ablation-robust"].command
        raise UserError(f"{plots}/ablation-robust: no scores elsewhere; rerun {command}")
    lines = [[whole["name"], *map(percent, scores_of(whole))]]
    lines[0].insert(3, "")
    for row in others:
        changes = [
            percent(np.subtract(mine, its), "+")
            for mine, its in zip(scores_of(row), scores_of(whole), strict=True)
        ]
        left_out = row["changes"].get("unchanged")
        group = [k for k, like in TRAINED_ON.items() if like and GROUP_OF[like] == left_out]
        of_group = group_left_out(row, whole, group) if group else ""
        lines.append([row["name"], *changes[:2], of_group, *changes[2:]])
    return "\n\n".join(
        [
            table(ABLATION_HEADS, lines),
            "The whole recipe in %, the others' change in points on the same images; mean ± "
            f"standard deviation over {config['replicates']} folds of train + validation; "
            f"{config['epochs']} epochs, widths {config['widths']}. Held-out: accuracy "
            f"with {config['views']} views. Corrupted: with one view, over the 11 corruptions at 5 "
            f"severities of {found['corrupted_images']} held-out images a fold; like what is "
            "left out: over those corruptions alone that resemble it (the whole "
            f"recipe's accuracy). Elsewhere: balanced accuracy on `{found['elsewhere']}`, "
            f"{config['views']} views, classes taken as equally frequent, without the "
            "temperature of released networks"
            + ("; choices were made on it" if found["elsewhere"] == DEVELOPMENT else "")
            + f". The test split was not read.{older_code(found)}",
        ]
    )


def scores_of(row: dict) -> list[list[float]]:
    """A variant's scores by fold: held-out, corrupted, and the two elsewhere."""
    return [
        row["accuracy"],
        [float(np.mean(list(kinds.values()))) for kinds in row["corrupted"]],
        *([part[key] for part in row["elsewhere"]] for key in ("all", "given")),
    ]


def group_left_out(row: dict, whole: dict, group: list[str]) -> str:
    """The change of accuracy under some corruptions; in brackets that of the whole recipe."""
    mine, its = (
        [np.mean([kinds[kind] for kind in group]) for kinds in part["corrupted"]]
        for part in (row, whole)
    )
    return f"{percent(np.subtract(mine, its), '+')} ({100 * np.mean(its):.2f})"
