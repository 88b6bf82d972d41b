"""Shared by all tables: only finished experiments of presets, on real data, by committed code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mcnemar, mean_and_deviation
from bloodcells.reporting.tables.commands import COMMANDS, result_of
from bloodcells.tracking import provenance, run_folder
from bloodcells.tracking.code_hash import different, idle
from bloodcells.tracking.files import read_json
from bloodcells.tracking.run_folder import SavedRun

PAPER = {"CNN": "cnn-paper", "baseline": "baseline"}
ROWS = {  # without balanced accuracy, which is the macro recall
    "accuracy": "accuracy",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "auc_macro": "AUC",
    "mcc": "MCC",
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    head, *lines = (f"| {' | '.join(cells)} |" for cells in (heads, *rows))
    return "\n".join([head, "|" + "---|" * len(heads), *lines])


def cell(value: dict, digits: int = 3) -> str:
    """Mean ± standard deviation over runs [95 % bootstrap interval over test images]."""
    return f"{deviation(value, digits)} {interval(value['low'], value['high'])}"


def deviation(value: dict, digits: int = 4, sign: str = "") -> str:
    """Mean ± standard deviation, without the latter if there is one model."""
    spread = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{value['mean']:{sign}.{digits}f}{spread}"


def percent(values: Sequence[float] | np.ndarray, sign: str = "") -> str:
    """Mean ± standard deviation of shares, in percent."""
    return deviation(mean_and_deviation([100 * value for value in values]), 2, sign)


def interval(low: float, high: float, form: str = ".3f") -> str:
    """The ends of an interval; three digits, as 1,000 draws give no more."""
    return f"[{low:{form}}, {high:{form}}]"


def one_view(metrics: dict) -> dict:
    """The test metrics with one view, whatever the number that the experiment averages over."""
    return metrics.get("test_one_view", metrics["test"])


def median_seconds(metrics: dict) -> float:
    """The median seconds of the training of a model."""
    return float(np.median([run["train_seconds"] for run in metrics["runs"]]))


def median_gflops(metrics: dict) -> float | None:
    """The machine's median speed in float32 matrix products during training; None if unknown."""
    rates = [rate for run in metrics["runs"] if (rate := run.get("machine_gflops"))]
    return float(np.median(rates)) if rates else None


def label_of(name: str, metrics: dict) -> str:
    """An experiment's name, with a warning if its models were trained on test images."""
    return name + " (trained on test images)" * metrics["leaks_test_images"]


def class_cells(row: dict) -> list[str]:
    """The cells of a class: its name, images, precision, and recall with its interval."""
    recall = f"{row['recall']:.3f} {interval(row['recall_low'], row['recall_high'])}"
    return [row["class"], str(row["support"]), f"{row['precision']:.3f}", recall]


def hardware(metrics: dict) -> str:
    """The processor or device of an experiment, and its threads."""
    environment = metrics["environment"]
    device = environment["processor"] if environment["device"] == "cpu" else environment["device"]
    return f"{device}, {environment['threads']} threads"


def machine(metrics: dict) -> str:
    """The processor or device, threads and precision of an experiment."""
    return f"{hardware(metrics)}, {metrics['config']['precision']}"


def comparison(first: SavedRun, second: SavedRun, names: tuple[str, str]) -> str:
    """A sentence that compares two experiments on the same test images, run by run."""
    same_runs = first.probabilities.shape == second.probabilities.shape
    if not same_runs or not np.array_equal(first.labels, second.labels):
        raise UserError(f"{first.folder} and {second.folder} differ in their runs or test images")
    answers = [run.probabilities.argmax(2) for run in (first, second)]
    tests = [mcnemar(first.labels, *pair) for pair in zip(*answers, strict=True)]
    gained = gain(first.labels, answers[1], answers[0])
    pairs = ", ".join(f"{test['only_first']}:{test['only_second']}" for test in tests)
    least, most = (pick(test["p"] for test in tests) for pick in (min, max))
    # rounded up, or "below" could be wrong
    bound = 10.0 ** np.ceil(np.log10(max(most, 1e-300)))
    p = f"below {bound:.0e}" if most < 0.001 else f"from {least:.2g} to {most:.2g}"
    return (
        f"{names[0]} against {names[1]} on the same test images: {gained.mean:+.2f} points "
        f"[{gained.low:+.2f}, {gained.high:+.2f}] (mean over {len(tests)} pairs of models, 95 % "
        f"interval over test images). Images that only one of them has right (first : second), "
        f"by pair: {pairs} (McNemar's exact test: p {p})."
    )


class Gain(NamedTuple):
    """What one experiment gains over another on the same images, in points of accuracy.

    The 95 % interval is over the images, the standard deviation over pairs of models: how much
    another training changes it. None of a single pair.
    """

    mean: float
    low: float
    high: float
    std: float | None


def gain(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> Gain:
    """What `after` gains over `before`: the labels that paired models predict, (models, N)."""
    changes = 100 * ((after == labels).astype(float) - (before == labels))
    by_image, by_pair = changes.mean(0), changes.mean(1)
    mean, half = by_image.mean(), 1.96 * by_image.std(ddof=1) / np.sqrt(len(by_image))
    std = float(by_pair.std(ddof=1)) if len(by_pair) > 1 else None
    return Gain(float(mean), float(mean - half), float(mean + half), std)


def in_words(gained: Gain) -> str:
    """A gain with its interval over images, and its spread over the pairs of models."""
    spread = "" if gained.std is None else f", ± {gained.std:.2f} over pairs of models"
    ends = interval(gained.low, gained.high, "+.2f")
    return f"{gained.mean:+.2f} points {ends} over images{spread}"


def read_run(plots: Path, preset: str, protocol: str | None = None) -> SavedRun:
    """The finished experiment of a preset, under another protocol if one is named.

    Raises `UserError` if it is missing, on generated images, of edited code or other settings.
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
        raise UserError(f"{folder}: no finished experiment; run {command}")
    run = run_folder.read(folder)
    check_origin(folder, run.metrics)
    check_settings(folder, run.metrics["config"], settings, command)
    return run


def check_origin(path: Path, found: dict) -> None:
    """Raise `UserError` for results that do not belong in a table or on the page."""
    if reason := unfit(found):
        raise UserError(f"{path}: {reason}")


def unfit(found: dict) -> str | None:
    """Why results belong neither in a table nor on the page; None if they do.

    They are of generated images, of BloodMNIST's made anew from photographs, or of edited code.
    """
    data = found.get("dataset", {})
    if data.get("synthetic"):
        return "made from generated images: not a result"
    if "synthetic" in data and data["name"] != "BloodMNIST":  # not of a user's own images
        return f"not made from the official images: {data['name']}"
    if edited := found.get("code", {}).get("edited"):
        return f"made by edited code ({run_folder.named(edited)}): see report.py --compare"
    return None


def older_commit(found: dict) -> str | None:
    """The commit whose code made these results, if that code has changed since; else None.

    Code that does nothing with the results' settings does not count.
    """
    code = found.get("code")
    if code is None:  # from before results recorded their code
        return found.get("environment", {}).get("git_commit", "unknown")
    changed = different(provenance.committed_code(code["script"]), code["files"])
    config, variants, runs = (found.get(name, {}) for name in ("config", "variants", "runs"))
    configs = [config, *(runs.values() if isinstance(runs, dict) else [])]  # of a study's runs
    varied = {*config.get("space", {}), *(name for row in variants for name in row["changes"])}
    relevant = set(changed) - idle(configs, {name.replace("-", "_") for name in varied})
    return (code["commit"] or "unknown") if relevant else None


def older_code(*results: dict) -> str:
    """The note on a row's results from older code; empty if there are none.

    For a study, the code of the experiments that it uses counts too. Several commits are listed by
    script.
    """
    made_of = [
        {"code": code, "config": found["runs"][name]}
        for found in results
        for name, code in found.get("runs_code", {}).items()
    ]
    commits: dict[str, set[str]] = {}
    for found in (*results, *made_of):
        if commit := older_commit(found):
            script = (found.get("code") or {}).get("script", "an unknown script")
            commits.setdefault(script, set()).add(commit)
    if not commits:
        return ""
    of = {script: ", ".join(sorted(found)) for script, found in sorted(commits.items())}
    if len(set(of.values())) == 1:
        return f" (code of {next(iter(of.values()))})"
    return f" (code: {'; '.join(f'{script} of {found}' for script, found in of.items())})"


def check_settings(path: Path, config: dict, preset: dict, command: str) -> None:
    """Raise `UserError` if `config` has other settings than the preset.

    Settings that the preset leaves out must have their defaults, and images 28 pixels.
    """
    expected = {field.name: field.default for field in fields(Recipe)} | {"size": 28}
    expected |= {"labels": "classes", "widths": None, "dropout": None, "teacher": None, "seed": 0}
    expected |= {"only": None, "objective": "accuracy", "prune": True, "prune_margin": 0.05}
    expected |= {key.replace("-", "_"): value for key, value in preset.items()}
    expected.pop("save_weights", None)  # which does not change the results
    for key in {"run", "released"} & expected.keys():  # of places, the last name is recorded
        expected[key] = Path(str(expected[key])).name
    if "precision" not in preset:  # then it depends on the machine
        del expected["precision"]
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(f"{path}: {key} is not {value}, as the table requires; rerun {command}")


def read_study(plots: Path, preset: str, **instead: object) -> dict:
    """The results of a study, by its preset; `instead` of some of its settings are others.

    Raises `UserError` if they are missing or do not belong in a table.
    """
    path, command = plots / preset / result_of(preset), COMMANDS[preset]
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; run {command}") from error
    check_origin(path, found)
    settings = load_preset(PRESETS / f"{preset}.toml") | instead
    check_settings(path, found["config"], settings, command)
    return found
