"""The model card's tables as Markdown: what the released recipe reaches, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from command_line import PRESETS, UserError, load_preset
from study_tables import check_runs, machine, read_study
from tables import ROWS, cell, read_run

RUN = "cnn-best"
SHOWN = (1, 3, 5)  # severities


def results(plots: Path) -> str:
    """Test results of the released recipe, all classes and each; and what its training took."""
    run = read_run(plots, RUN).metrics
    lines = ["| on test, eight views | macro average |", "|---|---|"]
    lines += [f"| {words} | {cell(run['test'][key], 4)} |" for key, words in ROWS.items()]
    one_view = run.get("test_one_view", run["test"])["accuracy"]
    lines.append(f"| accuracy, one view | {cell(one_view, 4)} |")
    lines += [
        "",
        "| class | test images | precision | recall [95 % interval] |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['class']} | {row['support']} | {row['precision']:.3f} | {row['recall']:.3f} "
        f"[{row['recall_low']:.3f}, {row['recall_high']:.3f}] |"
        for row in run["test_per_class"]
    ]
    seconds = [row["train_seconds"] for row in run["runs"]]
    release = json.loads((plots / "release" / "metrics.json").read_text(encoding="utf-8"))
    released = release["released"]["accuracy"]
    lines += [
        "",
        f"The weights of `predict.py` are those of the first seed, in 16 bits: {released['1']:.4f} "
        f"with one view, {released['8']:.4f} with eight.",
        "",
        f"Mean ± standard deviation over {len(seconds)} models [95 % interval of test sampling]. "
        f"Training one took {np.median(seconds) / 60:.0f} min in median, "
        f"{min(seconds) / 60:.0f} to {max(seconds) / 60:.0f} ({machine(run)}); all of them "
        f"{sum(seconds) / 3600 * run['environment']['threads']:.1f} core hours. The energy was not "
        "measured.",
    ]
    return "\n".join(lines)


def robustness(plots: Path) -> str:
    """Accuracy under each corruption."""
    preset = load_preset(PRESETS / "robustness.toml")
    preset = {**preset, "runs": None, "kinds": None}
    path = plots / "robustness" / "metrics.json"
    command = "python robustness.py"
    found = read_study(path, preset, command)
    names = [Path(run).name for run in load_preset(PRESETS / "robustness.toml")["runs"]]
    if list(found["runs"]) != names:
        raise UserError(f"{path}: not of the runs {', '.join(names)}; make it again with {command}")
    check_runs(path, found, command)
    clean, *corrupted = found["rows"]
    names = list(clean["accuracy"])
    heads = [f"{name}, {severity}" for name in names for severity in SHOWN]
    lines = [f"| corruption | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for kind in dict.fromkeys(row["corruption"] for row in corrupted):
        at = {row["severity"]: row["accuracy"] for row in corrupted if row["corruption"] == kind}
        cells = [f"{100 * np.mean(at[s][name]):.1f}" for name in names for s in SHOWN]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    means = {name: np.mean([np.mean(row["accuracy"][name]) for row in corrupted]) for name in names}
    as_they_are = ", ".join(
        f"{name} {100 * np.mean(clean['accuracy'][name]):.1f}" for name in names
    )
    over_all = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    models = "/".join(str(len(values)) for values in clean["accuracy"].values())
    return "\n".join(
        [
            *lines,
            "",
            f"Accuracy in % at severities {', '.join(map(str, SHOWN))} of 5, one view, mean over "
            f"{models} models, on {found['images']:,} test images in which the classes have their "
            f"shares. As they are: {as_they_are}. Mean over all corruptions and severities: "
            f"{over_all}.",
        ]
    )
