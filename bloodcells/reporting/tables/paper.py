"""The paper's table as Markdown, and what all tables share: only finished real runs of presets."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np

from bloodcells.cli.arguments import PRESETS, UserError, load_preset
from bloodcells.cli.recipe import Recipe
from bloodcells.evaluation.metrics import mcnemar
from bloodcells.tracking import run_folder
from bloodcells.tracking.run_folder import SavedRun

# Hobelsberger et al., "Optimizing Blood Cell Classification with Convolutional Neural Networks"
PUBLISHED = {
    "CNN": {
        "accuracy": 0.914,
        "precision_macro": 0.912,
        "recall_macro": 0.896,
        "f1_macro": 0.901,
    },
    "baseline": {
        "accuracy": 0.781,
        "precision_macro": 0.775,
        "recall_macro": 0.738,
        "f1_macro": 0.748,
    },
}
PAPER = {"CNN": "cnn-paper", "baseline": "baseline"}
ROWS = {  # balanced accuracy is the macro recall under another name
    "accuracy": "accuracy",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "auc_macro": "AUC",
    "mcc": "MCC",
}


def paper_table(plots: Path) -> str:
    """The paper's table as Markdown: published, as published (ours), honest (ours)."""
    honest = {name: read_run(plots, preset) for name, preset in PAPER.items()}
    leaking = {name: read_run(plots, preset, "as-published") for name, preset in PAPER.items()}
    lines = [
        "| macro average | published | as published (ours) | honest (ours) |",
        "|---|---|---|---|",
    ]
    for name in PAPER:
        for metric, words in ROWS.items():
            published = PUBLISHED[name].get(metric)
            cells = [
                f"{name} {words}",
                "" if published is None else f"{published:.3f}",
                cell(leaking[name].metrics["test"][metric]),
                cell(honest[name].metrics["test"][metric]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    floor = honest["CNN"].metrics["test_majority_class_accuracy"]
    lines.append(f"| majority class accuracy | | | {floor:.3f} |")
    paired = comparison(honest["CNN"], honest["baseline"], ("The CNN", "the baseline"))
    return "\n".join([*lines, "", explanation(honest, leaking), "", paired])


def cell(value: dict, digits: int = 3) -> str:
    """mean +- standard deviation over runs [95 % interval of test sampling]."""
    mean, low, high = (f"{value[key]:.{digits}f}" for key in ("mean", "low", "high"))
    spread = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{mean}{spread} [{low}, {high}]"


def explanation(honest: dict, leaking: dict) -> str:
    """What tells the columns apart, in two sentences."""
    runs = {len(run.probabilities) for run in honest.values()}
    folds = honest["CNN"].metrics["config"]["folds"]
    gap = {
        name: leaking[name].metrics["test"]["accuracy"]["mean"]
        - honest[name].metrics["test"]["accuracy"]["mean"]
        for name in PAPER
    }
    return (
        f"Honest: mean ± standard deviation over {'/'.join(map(str, runs))} folds of train + "
        "validation, the test split unseen; in brackets the 95 % interval of test sampling. "
        "As published: all three splits are pooled before the folds are made, so the one model "
        f"that is scored, the last fold's, was trained on about {1 - 1 / folds:.0%} of the test "
        "images it is scored on, and on a quarter more images in all. Its accuracy differs from "
        f"the honest mean by {gap['CNN']:+.3f} (CNN) and {gap['baseline']:+.3f} (baseline)."
    )


def comparison(first: SavedRun, second: SavedRun, names: tuple[str, str]) -> str:
    """Two models on the same test images, run by run."""
    same_runs = first.probabilities.shape == second.probabilities.shape
    if not same_runs or not np.array_equal(first.labels, second.labels):
        raise UserError(f"{first.folder} and {second.folder} differ in their runs or test images")
    runs = zip(first.probabilities, second.probabilities, strict=True)
    tests = [mcnemar(first.labels, one.argmax(1), other.argmax(1)) for one, other in runs]
    better = sum(test["only_first"] > test["only_second"] for test in tests)
    pairs = ", ".join(f"{test['only_first']}:{test['only_second']}" for test in tests)
    worst = max(test["p"] for test in tests)
    return (
        f"{names[0]} against {names[1]} on the same test images (McNemar's exact test, run by "
        f"run): the first is better in {better} of {len(tests)} pairs of runs, largest p = "
        f"{worst:.1e}. Images that only the first and only the second got right: {pairs}."
    )


def read_run(plots: Path, preset: str, protocol: str | None = None) -> SavedRun:
    """The finished run of a preset, with another protocol if one is named.

    Raises `UserError` if it is missing, on generated images, or not of the preset's settings.
    """
    settings = load_preset(PRESETS / f"{preset}.toml")
    script = "model_cnn.py" if "model" in settings else "model_baseline.py"
    own = preset in PAPER.values()  # the scripts' default presets
    command = f"python {script} --overwrite" + ("" if own else f" --config {preset}")
    suffix = ""
    if protocol is not None:
        settings["protocol"], suffix = protocol, f"-{protocol}"
        command += f" --protocol {protocol}"
    folder = plots / (preset + suffix)
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder}: no finished run; make it with {command}")
    run = run_folder.read(folder)
    if run.metrics["dataset"]["synthetic"]:
        raise UserError(f"{folder}: a run on generated images never enters a table")
    check_settings(folder, run.metrics["config"], settings, command)
    return run


def check_settings(path: Path, config: dict, preset: dict, command: str) -> None:
    """Raise `UserError` if a run's settings are not its preset's, and 28 px where it is silent."""
    expected = {field.name: field.default for field in fields(Recipe)} | {"size": 28}
    expected |= {"widths": None} | {key.replace("-", "_"): value for key, value in preset.items()}
    expected.pop("save_weights", None)  # which leaves the results as they are
    if "precision" not in preset:  # then it is what the machine does best
        del expected["precision"]
    for key, value in expected.items():
        if value is not MISSING and config.get(key, value) != value:
            raise UserError(
                f"{path}: {key} is not {value} as the table demands; make it again with {command}"
            )
