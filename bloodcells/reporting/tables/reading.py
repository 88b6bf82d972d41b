"""Reading results for tables: only of presets, on real data, by committed code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError
from bloodcells.reporting.studies import STUDIES
from bloodcells.tracking import provenance, run_folder
from bloodcells.tracking.code_hash import classes, different, file_hash, idle, network_parts
from bloodcells.tracking.files import read_json
from bloodcells.tracking.run_folder import SavedRun

PAPER = {"CNN": "cnn-paper", "baseline": "baseline"}
USUAL: dict[str, Any] = {  # what a setting must be where a preset leaves it out
    **{field.name: field.default for field in fields(Recipe)},
    "size": 28,
    "labels": "classes",
    "seed": 0,
    "widths": None,
    "dropout": None,
    "teacher": None,
    "only": None,  # of ablation.py
    "kinds": None,  # of robustness.py
    "objective": "accuracy",  # of the search, as the next two
    "prune": True,
    "prune_margin": 0.05,
}
del USUAL["precision"]  # which depends on the machine


def read_run(
    plots: Path, preset: str, protocol: str | None = None, models: int | None = None
) -> SavedRun:
    """The finished experiment of a preset, under another protocol or of fewer models if named.

    Raises `UserError` if it is missing, on generated images, of edited code or other settings.
    """
    settings = load_preset(PRESETS / f"{preset}.toml")
    script = "model_cnn.py" if "model" in settings else "model_baseline.py"
    own = preset in PAPER.values()  # the scripts' default presets
    command = f"python {script} --overwrite" + ("" if own else f" --config {preset}")
    suffix = ""
    if models is not None:
        settings["runs"], suffix = models, f"-runs-{models}"
        command += f" --runs {models}"
    if protocol is not None:
        settings["protocol"], suffix = protocol, f"{suffix}-{protocol}"
        command += f" --protocol {protocol}"
    folder = plots / (preset + suffix)
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder}: no finished experiment; run {command}")
    run = run_folder.read(folder)
    refuse_unfit(folder, run.metrics)
    refuse_other_settings(folder, run.metrics["config"], settings, command)
    return run


def read_study(plots: Path, preset: str) -> dict:
    """The results of a study, by its preset.

    Raises `UserError` if they are missing or do not belong in a table, or if the study or an
    experiment that it is of has other settings than its preset.
    """
    found = read_results(plots, preset)
    path, command = plots / preset / STUDIES[preset].result, STUDIES[preset].command
    of = {preset: found["config"]} | experiments_of(found)
    for name, config in of.items():
        settings = load_preset(PRESETS / f"{name}.toml")
        refuse_other_settings(path, config, settings, command)
    return found


def read_results(plots: Path, name: str) -> dict:
    """The results of a study, whatever its settings.

    Raises `UserError` if they are missing or do not belong in a table.
    """
    path = plots / name / STUDIES[name].result
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; run {STUDIES[name].command}") from error
    refuse_unfit(path, found)
    return found


def refuse_unfit(path: Path, found: dict) -> None:
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
    if edited := found["code"]["edited"]:
        return f"made by edited code ({run_folder.named(edited)}): see report.py --compare"
    return None


def refuse_other_settings(path: Path, config: dict, preset: dict, command: str) -> None:
    """Raise `UserError` if `config` has other settings than the preset and `USUAL`."""
    expected = USUAL | {key.replace("-", "_"): value for key, value in preset.items()}
    expected.pop("save_weights", None)  # which does not change the results
    for key in {"run", "released"} & expected.keys():  # of places, the last name is recorded
        expected[key] = Path(str(expected[key])).name
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(f"{path}: {key} is not {value}, as the table requires; rerun {command}")


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
            commits.setdefault(found["code"]["script"], set()).add(commit)
    if not commits:
        return ""
    of = {script: ", ".join(sorted(found)) for script, found in sorted(commits.items())}
    if len(set(of.values())) == 1:
        return f" (code of {next(iter(of.values()))})"
    return f" (code: {'; '.join(f'{script} of {found}' for script, found in of.items())})"


def older_commit(found: dict) -> str | None:
    """The commit whose code made these results, if that code has changed since; else None.

    Code that does nothing with the results' settings does not count, nor do other networks of
    models.py.
    """
    code = found["code"]
    changed = {*different(provenance.committed_code(code["script"]), code["files"])}
    changed -= idle_code(found)
    if "models.py" in changed and same_networks(found):
        changed.remove("models.py")
    return (code["commit"] or "unknown") if changed else None


def same_networks(found: dict) -> bool:
    """Whether the networks of these results are as they were, although models.py has changed.

    Whatever else is new there does nothing to them. Where they are not named, all that there were
    count. False if the earlier commit is unknown.
    """
    code = found["code"]
    then = provenance.at_commit(code["commit"] or "", "models.py")
    now = provenance.at_head("models.py")
    if not then or not now or file_hash(then) != code["files"].get("models.py"):
        return False
    networks = networks_of(found) or classes(then)
    today = network_parts(now, networks)
    return all(today.get(name) == code for name, code in network_parts(then, networks).items())


def networks_of(found: dict) -> set[str]:
    """The names of the networks that results are of; empty if they do not tell all."""
    config = found.get("config", {})
    if config.get("released") or config.get("teacher"):  # other networks had a part in them
        return set()
    settings = [config, *experiments_of(found).values()]
    settings += [row["changes"] for row in found.get("variants", [])]
    names = {found.get("model", {}).get("name"), *(one.get("model") for one in settings)}
    return {*names, *config.get("space", {}).get("model", [])} - {None}


def idle_code(found: dict) -> set[str]:
    """The files whose code does nothing with the settings of these results."""
    config = found.get("config", {})
    processes = found.get("environment", {}).get("processes", 1)
    script, there = found["code"]["script"], found.get("elsewhere")
    used = {
        "torchrun": processes > 1 or "averaging_seconds" in found,  # bench.py times it
        "elsewhere": there or script == "finetune.py",
        "scored_like_elsewhere": there or script in ("finetune.py", "model_release.py"),
    }
    varied = {*config.get("space", {})}
    varied |= {name for row in found.get("variants", []) for name in row["changes"]}
    return idle(
        [config, used, *experiments_of(found).values()],
        {name.replace("-", "_") for name in varied},
    )


def experiments_of(found: dict) -> dict[str, dict]:
    """The settings of the experiments that a study is of, by name.

    Empty for an experiment: its own `runs` are a list, of its models.
    """
    runs = found.get("runs")
    return runs if isinstance(runs, dict) else {}
