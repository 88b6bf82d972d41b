"""Tables of the released recipe, in Markdown: test results, robustness, calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.errors import UserError
from bloodcells.reporting.studies import STUDIES
from bloodcells.reporting.tables.cells import (
    ROWS,
    cell,
    class_cells,
    deviation,
    either,
    machine,
    median_seconds,
    one_view,
    table,
)
from bloodcells.reporting.tables.reading import older_code, read_results, read_run, read_study

RELEASED = "cnn-robust"
TRAINED_ON = {  # for each corruption, the change in domain_randomisation.py that is most like it
    "defocus": "blur",
    "motion": "motion",
    "stain": "colour_table",
    "colour shift": "colour",
    "brightness": "colour",
    "contrast": "colour",
    "jpeg": None,
    "pixelation": "fewer_pixels",
    "bubbles": "spots",
    "specks": "spots",
    "noise": "noise",
}
SEVERITIES = (1, 3, 5)  # of five
TRUST_ROWS = {
    "accuracy": "accuracy",
    "ece": "calibration error (ECE, 15 bins)",
    "nll": "log loss (NLL)",
    "brier": "Brier score",
    "aurc": "area under the risk-coverage curve (AURC)",
}
SET_ROWS = ("coverage", "lowest coverage of a class", "mean number of classes", "empty")


def results(plots: Path) -> str:
    """Test results of the released recipe, overall and by class, and its training time."""
    run = read_run(plots, RELEASED).metrics
    metrics = [[words, cell(run["test"][key], 4)] for key, words in ROWS.items()]
    metrics.append(["accuracy, one view", cell(one_view(run)["accuracy"], 4)])
    classes = ("class", "test images", "precision", "recall [95 % interval]")
    seconds = [row["train_seconds"] for row in run["runs"]]
    release = read_study(plots, "release")
    released = release["released"]["accuracy"]
    parts = [
        table(("metric", "test, eight views"), metrics),
        table(classes, map(class_cells, run["test_per_class"])),
        "`predict.py` uses the weights of the first seed, in float16: accuracy "
        f"{released['1']:.4f} with one view, {released['8']:.4f} with eight.",
        f"Mean ± standard deviation over {len(seconds)} models [95 % bootstrap interval over test "
        f"images]. Training one model took a median of {median_seconds(run) / 60:.1f} min "
        f"({min(seconds) / 60:.1f} to {max(seconds) / 60:.1f}; {machine(run)}), all of them "
        f"{sum(seconds) / 3600 * run['environment']['threads']:.1f} core hours. Energy was not "
        f"measured.{older_code(run, release)}",
    ]
    return "\n\n".join(parts)


def read_robustness(plots: Path) -> dict:
    """Read the study of corruptions. Raises `UserError` if it is missing or unfit."""
    preset = load_preset(PRESETS / "robustness.toml")
    names = [Path(run).name for run in preset["runs"]]
    if list(read_results(plots, "robustness")["runs"]) != names:
        raise UserError(
            f"{plots}/robustness: its experiments are not {', '.join(names)}; rerun "
            f"{STUDIES['robustness'].command}"
        )
    return read_study(plots, "robustness")


def robustness(plots: Path) -> str:
    """Accuracy under each corruption, beside the change of `TRAINED_ON` like it."""
    found = read_robustness(plots)
    clean, *corrupted = found["rows"]
    names = list(clean["accuracy"])
    at_each = [f"{name}, severity {severity}" for name in names for severity in SEVERITIES]
    lines = []
    for kind in dict.fromkeys(row["corruption"] for row in corrupted):
        at = {row["severity"]: row["accuracy"] for row in corrupted if row["corruption"] == kind}
        cells = [f"{100 * np.mean(at[s][name]):.1f}" for name in names for s in SEVERITIES]
        lines.append([kind, TRAINED_ON.get(kind) or "", *cells])
    unseen = [row for row in corrupted if TRAINED_ON.get(row["corruption"]) is None]
    unlike = " and ".join(dict.fromkeys(row["corruption"] for row in unseen))
    models = either(map(len, clean["accuracy"].values()))
    levels = ", ".join(map(str, SEVERITIES))
    return "\n\n".join(
        [
            table(("corruption", "trained on", *at_each), lines),
            f"Accuracy in % at severities {levels} of 5, with one view, mean "
            f"over {models} models each, on a stratified sample of {found['images']:,} test "
            f"images. Uncorrupted: {means([clean], names)}. Mean over all corruptions and "
            f"severities: {means(corrupted, names)}. *Trained on*: the most similar change in "
            "[domain randomisation](docs/other-laboratories.md#what-it-does), a function of "
            "bloodcells/training/domain_randomisation.py; only `cnn-robust` is trained with it. "
            f"None is like {unlike}; mean over its severities: {means(unseen, names)}."
            + older_code(found),
        ]
    )


def means(rows: list[dict], names: list[str]) -> str:
    """The mean accuracy of each experiment over rows of the study of corruptions, in %."""
    return ", ".join(
        f"{name} {100 * np.mean([np.mean(row['accuracy'][name]) for row in rows]):.1f}"
        for name in names
    )


def trust(plots: Path) -> str:
    """Calibration of the released weights' probabilities on test, as Markdown."""
    found = read_study(plots, "release")
    views = found["views"]
    lines = []
    for key, name in TRUST_ROWS.items():
        cells = [deviation(v["after"][key]) for v in views.values()]
        if key != "accuracy":  # which a temperature does not change
            before = (v["before"][key]["mean"] for v in views.values())
            cells = [f"{was:.4f} → {now}" for was, now in zip(before, cells, strict=True)]
        lines.append([name, *cells])
    for level in views["1"]["sets"]:
        columns = [set_cells(view["sets"][level]) for view in views.values()]
        for what, *cells in zip(SET_ROWS, *columns, strict=True):
            lines.append([f"{float(level):.0%} prediction sets: {what}", *cells])
    unlike = "; ".join(
        f"{kind} {share['released']:.1%} ({share['mean']:.1%} ± {100 * share['std']:.1f})"
        for kind, share in found["called_unlike"].items()
    )
    rounding = found["float16"]["test"]
    changed = rounding["labels_changed"]
    trained = {config["precision"] for config in found["runs"].values()} - {"float32"}
    besides = f", and predicting in float32 instead of {', '.join(trained)}," if trained else ""
    return "\n\n".join(
        [
            table(("test images", "one view", "eight views"), lines),
            f"Mean ± standard deviation over the models of {len(changed)} seeds; before → after "
            "temperature scaling. Temperatures and prediction sets were fitted on validation. "
            "Flagged as unlike the training images, by the released weights (mean ± standard "
            "deviation over the seeds), with the threshold set to flag "
            f"{found['config']['false_alarms']:.0%} of the validation images: {unlike}. The "
            "measure of distance was chosen on some of these kinds (noise, blank fields, digits), "
            f"so their shares are optimistic. Storing the weights in float16{besides} changed "
            f"{sum(changed)} of the {len(changed)} x {found['dataset']['counts']['test']:,} "
            f"predicted test labels with eight views.{older_code(found)}",
        ]
    )


def set_cells(sets: dict) -> list[str]:
    """The cells of prediction sets under `SET_ROWS`."""
    classes = sets["coverage_by_class"]["mean"]
    worst = min(range(len(classes)), key=classes.__getitem__)
    return [
        deviation(sets["coverage"]),
        f"{classes[worst]:.3f} ({CLASS_NAMES[worst]})",
        f"{sets['size']['mean']:.2f}",
        f"{sets['empty']['mean']:.1%}",
    ]
