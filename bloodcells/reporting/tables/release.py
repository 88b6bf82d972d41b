"""Tables of the released recipe, in Markdown: what it reaches, when it fails, how sure it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.errors import UserError
from bloodcells.reporting.tables.common import (
    ROWS,
    cell,
    check_settings,
    machine,
    mark,
    read_run,
    read_study,
)

RUN = "cnn-best"
SHOWN = (1, 3, 5)  # severities
TRUST_ROWS = {
    "accuracy": "accuracy",
    "ece": "calibration error (ECE, 15 bins)",
    "nll": "log loss (NLL)",
    "brier": "Brier score",
    "aurc": "risk over coverage (AURC)",
}


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
    release = read_release(plots)
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
        f"measured.{mark(run, release)}",
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
    models = " and ".join(str(len(values)) for values in clean["accuracy"].values())
    return "\n".join(
        [
            *lines,
            "",
            f"Accuracy in % at severities {', '.join(map(str, SHOWN))} of 5, one view, mean over "
            f"{models} models, on {found['images']:,} test images in which the classes have their "
            f"shares. As they are: {as_they_are}. Mean over all corruptions and severities: "
            f"{over_all}.{mark(found)}",
        ]
    )


def trust(plots: Path) -> str:
    """What the released weights' probabilities are worth on test, as Markdown."""
    found = read_release(plots)
    views = found["views"]
    lines = ["| test images | one view | eight views |", "|---|---|---|"]
    for key, name in TRUST_ROWS.items():
        cells = (
            f"{v['before'][key]['mean']:.4f} → {deviation(v['after'][key])}" for v in views.values()
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for level in views["1"]["sets"]:
        cells = (
            f"{deviation(v['sets'][level]['coverage'])}; {v['sets'][level]['size']['mean']:.2f}"
            for v in views.values()
        )
        lines.append(
            f"| sets at {float(level):.0%}: hold the truth; classes | {' | '.join(cells)} |"
        )
    unlike = "; ".join(f"{k} {v['mean']:.1%}" for k, v in found["called_unlike"].items())
    rounding = found["float16"]["test"]
    changed = rounding["labels_changed"]
    trained = {config["precision"] for config in found["runs"].values()} - {"float32"}
    besides = f", and predicting in float32, not {', '.join(trained)}," if trained else ""
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± standard deviation over {len(changed)} seeds' models; before → after a "
            "temperature that was fitted, like the sets, on validation. Called unlike the training "
            f"cells (bound set at {found['config']['false_alarms']:.0%} of the "
            f"validation cells): {unlike}. Storing the weights in 16 bits{besides} changed the "
            f"label of {sum(changed)} of the {len(changed)} x 3,421 test answers (p at least "
            f"{min(t['p'] for t in rounding['mcnemar']):.2g}, McNemar).{mark(found)}",
        ]
    )


def read_release(plots: Path) -> dict:
    """The study of the released weights. Raises `UserError` if it is missing or unfit."""
    preset = load_preset(PRESETS / "release.toml")
    preset["run"] = Path(preset["run"]).name  # as model_release.py notes it
    path, command = plots / "release" / "metrics.json", "python model_release.py"
    found = read_study(path, preset, command)
    check_runs(path, found, command)
    return found


def deviation(value: dict) -> str:
    """Mean ± standard deviation, the latter where there are several models."""
    return f"{value['mean']:.4f}" + ("" if value["std"] is None else f" ± {value['std']:.4f}")


def check_runs(path: Path, found: dict, command: str) -> None:
    """Raise `UserError` if a study is of other runs than the presets' of the same names."""
    for name, config in found["runs"].items():
        check_settings(path, config, load_preset(PRESETS / f"{name}.toml"), command)
