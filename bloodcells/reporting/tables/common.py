"""What all tables share: only finished real runs of presets and of committed code enter them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mcnemar
from bloodcells.tracking import provenance, run_folder
from bloodcells.tracking.run_folder import SavedRun

PAPER = {"CNN": "cnn-paper", "baseline": "baseline"}
ROWS = {  # balanced accuracy is the macro recall under another name
    "accuracy": "accuracy",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "auc_macro": "AUC",
    "mcc": "MCC",
}


def cell(value: dict, digits: int = 3) -> str:
    """Mean ± standard deviation over runs [95 % interval of test sampling]."""
    mean, low, high = (f"{value[key]:.{digits}f}" for key in ("mean", "low", "high"))
    spread = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{mean}{spread} [{low}, {high}]"


def machine(metrics: dict) -> str:
    """What a run or study was trained on, and how precisely."""
    environment, precision = metrics["environment"], metrics["config"]["precision"]
    device = environment["processor"] if environment["device"] == "cpu" else environment["device"]
    return f"{device}, {environment['threads']} threads, {precision}"


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
    check_origin(folder, run.metrics)
    check_settings(folder, run.metrics["config"], settings, command)
    return run


def check_origin(path: Path, found: dict) -> None:
    """Raise `UserError` for results of generated images, or of code that is not committed."""
    if found["dataset"]["synthetic"]:
        raise UserError(f"{path}: a run on generated images never enters a table")
    if edited := found.get("code", {}).get("edited"):
        raise UserError(
            f"{path}: a run of edited code never enters a table ({run_folder.named(edited)}); "
            "report.py --compare shows it"
        )


def older_commit(found: dict) -> str | None:
    """The commit whose code made these results, if that code has changed since; else None."""
    code = found.get("code")
    if code is None:  # made before results knew their code
        return found.get("environment", {}).get("git_commit", "unknown")
    now = provenance.committed_code(code["script"])
    return None if now == code["files"] else code["commit"] or "unknown"


def mark(*results: dict) -> str:
    """What a row must say of results that older code made; nothing of the others.

    Those of a study count with the runs that it is of.
    """
    made_of = [{"code": code} for found in results for code in found.get("runs_code", {}).values()]
    commits = {commit for found in (*results, *made_of) if (commit := older_commit(found))}
    return f" (code of {', '.join(sorted(commits))})" if commits else ""


def check_settings(path: Path, config: dict, preset: dict, command: str) -> None:
    """Raise `UserError` if a run's settings are not its preset's, and 28 px where it is silent."""
    expected = {field.name: field.default for field in fields(Recipe)} | {"size": 28}
    expected |= {"widths": None} | {key.replace("-", "_"): value for key, value in preset.items()}
    expected.pop("save_weights", None)  # which leaves the results as they are
    if "precision" not in preset:  # then it is what the machine does best
        del expected["precision"]
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(
                f"{path}: {key} is not {value} as the table demands; make it again with {command}"
            )


def read_study(path: Path, preset: dict, command: str) -> dict:
    """A study's JSON. Raises `UserError` if it is missing, on generated images, or of others."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; make it with {command}") from error
    check_origin(path, found)
    check_settings(path, found["config"], preset, command)
    return found
