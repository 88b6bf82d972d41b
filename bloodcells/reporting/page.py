"""All finished experiments under plots/ as one self-contained HTML page."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from bloodcells.cli.arguments import LEAKS
from bloodcells.errors import UserError
from bloodcells.reporting import html
from bloodcells.reporting.studies import STUDIES, Study
from bloodcells.reporting.tables.cells import cell, label_of, median_seconds, scores_of_class
from bloodcells.reporting.tables.reading import unfit
from bloodcells.tracking import provenance, run_folder
from bloodcells.tracking.files import read_json

SCORES = {
    "accuracy": "accuracy",
    "f1_macro": "F1",
    "auc_macro": "AUC",
    "mcc": "MCC",
}
TITLES = {  # of the tables
    "paper": "The paper's experiment",
    "paper-details": "The paper's experiment: more metrics, and the leak",
    "headline": "Headline results",
    "speed": "How fast networks train",
    "ladder": "All recipes",
    "ablation": "What each part of the recipe contributes",
    "ablation-robust": "What each part of cnn-robust contributes",
    "elsewhere": "Other laboratories",
    "finetune": "With labelled images of another laboratory",
    "batch-effect": "A batch that was left out",
    "errors": "What the errors are",
    "stages": "Eleven stages instead of eight classes",
    "trust": "How far to trust a probability",
    "search": "The paper's search",
    "results": "The released recipe, class by class",
    "robustness": "Accuracy on corrupted images",
}
HEADS = ("experiment", "network", "parameters", "models scored")
UNFIT = (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
Block = Callable[[Path], str]


def write_page(
    plots: Path, blocks: Mapping[str, Block], undrawn: Mapping[str, str], path: Path
) -> list[str]:
    """Write the page; returns what was left out and why, one line each.

    `blocks` make the documents' tables, as Markdown, from `plots`; `undrawn` has the figures across
    experiments of which there may be an earlier one, and why there is no new one. Raises
    `UserError` if there is no finished experiment, or if the page cannot be written.
    """
    experiments, left_out = read_experiments(plots)
    left_out += [f"{name}: {why}" for name, why in undrawn.items()]
    tables = []
    for name, block in blocks.items():
        try:
            tables.append({"name": name, "parts": markdown(block(plots), TITLES.get(name, name))})
        except UNFIT as error:
            left_out.append(f"table {name}: {reason(error)}")
    if not experiments:
        raise UserError(f"--plots {plots}: no finished experiment there: {'; '.join(left_out)}")
    studies = []
    for name, about in STUDIES.items():
        if not (plots / name).is_dir():
            continue
        try:
            read_result(plots / name / about.result)
            studies.append(study(plots / name, about))
        except UNFIT as error:
            left_out.append(f"{name}: {reason(error)}")
    html.write(
        path,
        "page.html.j2",
        overview={
            "caption": "All training experiments on the test split",
            "heads": [*HEADS, *SCORES.values(), "s per model"],
            "rows": [one["row"] for one in experiments],
        },
        tables=tables,
        across_experiments=[
            one for one in html.figures(plots, "test split") if one["file"] not in undrawn
        ],
        experiments=experiments,
        studies=studies,
        left_out=left_out,
    )
    return left_out


def read_experiments(plots: Path) -> tuple[list[dict], list[str]]:
    """What the page shows of each experiment that can be shown; why others cannot."""
    experiments, left_out = [], []
    for folder in sorted(path for path in plots.glob("[!.]*") if path.is_dir()):
        if folder.name in STUDIES:
            continue
        code = provenance.code_entry(folder)
        trains = code and code["script"] in ("model_baseline.py", "model_cnn.py")
        # a copy of these scripts is known by what it wrote
        if code and not (trains or run_folder.is_training(folder)):
            left_out.append(f"{folder.name}: of {code['script']}, no training experiment")
            continue
        try:
            metrics = read_result(folder / "metrics.json")
            row = overview_row(folder, metrics)
            experiments.append(experiment_section(folder, metrics) | {"row": row})
        except UNFIT as error:
            left_out.append(f"{folder.name}: {reason(error)}")
    return experiments, left_out


def reason(error: Exception) -> str:
    """Why a result cannot be shown."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return str(error) if isinstance(error, UserError | OSError | ValueError) else repr(error)


def read_result(path: Path) -> dict:
    """Read a result file. Raises `UserError` if missing, of generated images or edited code."""
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"not finished, as it has no {path.name}") from error
    if why := unfit(found):
        raise UserError(why)
    return found


def overview_row(folder: Path, metrics: dict) -> list[str]:
    """The row of an experiment in the table of all."""
    return [
        label_of(folder.name, metrics),
        metrics["model"]["name"],
        f"{metrics['model']['parameters']:,}",
        str(sum(run["test"] is not None for run in metrics["runs"])),
        *(cell(metrics["test"][key], 4) for key in SCORES),
        f"{median_seconds(metrics):.0f}",
    ]


def experiment_section(folder: Path, metrics: dict) -> dict:
    """An experiment: the command that repeats it, classes, settings, machine and figures."""
    place = provenance.relative(folder)
    flags = ("--config", f"{place}/config.toml", "--output", place)
    classes = [
        [
            row["class"],
            str(row["support"]),
            *scores_of_class(row),
        ]
        for row in metrics["test_per_class"]
    ]
    settings = {**metrics["config"], **metrics["environment"]}
    return {
        "id": anchor(folder),
        "name": folder.name,
        "leaks": LEAKS if metrics["leaks_test_images"] else "",
        "command": shlex.join(["python", metrics["code"]["script"], *flags, "--overwrite"]),
        "classes": {
            "caption": "By class, test split",
            "heads": ["class", "images", "precision", "recall", "F1"],
            "rows": classes,
        },
        "settings": {
            "caption": "Settings",
            "heads": ["name", "value"],
            "rows": [[k, str(v)] for k, v in settings.items()],
        },
        "figures": html.figures(folder, "test split"),
    }


def study(folder: Path, about: Study) -> dict:
    """A study: its title, command, data and figures."""
    return {
        "id": anchor(folder),
        "title": about.title,
        "command": about.command,
        "images": about.images,
        "figures": html.figures(folder, about.images),
    }


def markdown(text: str, title: str) -> list[dict]:
    """The tables, lists and paragraphs of a document's block, in order."""
    parts = []
    captions = itertools.chain([title], (f"{title}, part {n}" for n in itertools.count(2)))
    for chunk in text.split("\n\n"):
        lines = chunk.strip().splitlines()
        if lines and lines[0].startswith("|"):
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            found = {"caption": next(captions), "heads": cells[0], "rows": cells[2:]}
            parts.append({**found, "markdown": True})
        elif lines and lines[0].startswith("- "):
            parts.append({"points": [line.removeprefix("- ") for line in lines]})
        elif lines:
            parts.append({"text": " ".join(lines)})
    return parts


def anchor(folder: Path) -> str:
    """The id of a folder's section, which no other has."""
    return "run-" + quote(folder.name, safe="", errors="surrogatepass").replace("%", ":")
