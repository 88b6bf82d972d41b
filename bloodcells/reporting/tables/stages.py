"""Stages of maturation: the best recipe's errors by stage, and a recipe that names them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import CLASS_OF, STAGES, read_table
from bloodcells.errors import UserError
from bloodcells.evaluation.batch_effect import USUAL_SIZE
from bloodcells.evaluation.metrics import wilson_interval
from bloodcells.reporting.studies import STUDIES
from bloodcells.reporting.tables.cells import cell, class_cells, interval, one_view, table
from bloodcells.reporting.tables.paired import gain, in_words
from bloodcells.reporting.tables.reading import PAPER, older_code, read_run, read_study
from bloodcells.tracking.run_folder import SavedRun

BEST = "cnn-best"
STAGE_RUN = "cnn-stages"
MATURATION = (  # in this order a granulocyte matures
    *("promyelocyte", "myelocyte", "metamyelocyte", "band neutrophil", "segmented neutrophil"),
)
NEIGHBOURS = {  # the stages on both sides of a class's border, and the class beyond it
    "metamyelocyte": "neutrophil",
    "band neutrophil": "immature granulocyte",
}
ERROR_HEADS = (
    *("stage", "test images", "error rate [95 % interval]", "share of all errors"),
    "taken for (images per model)",
)
STAGE_HEADS = (
    *("stage", "test images", "precision", "recall [95 % interval]"),
    "taken for (images per model)",
)


def stage_errors(plots: Path) -> list[dict]:
    """For each stage: its test images, their mean error rate, and what they were taken for."""
    run, sources = read_run(plots, BEST), read_table()["test"]
    if len(sources) != len(run.labels):
        raise UserError(f"{run.folder}: not of the official test images, whose stages are known")
    stages = np.array([one.stage for one in sources])
    predicted = run.probabilities.argmax(2)
    rows = []
    for stage in CLASS_OF:
        here = stages == stage
        wrong = predicted[:, here][predicted[:, here] != run.labels[here]]
        taken = np.bincount(wrong, minlength=len(CLASS_NAMES))
        rows.append(
            {
                "stage": stage,
                "images": int(here.sum()),
                "error": len(wrong) / predicted[:, here].size,
                "errors": len(wrong),
                "taken_for": {
                    CLASS_NAMES[label]: int(taken[label])
                    for label in np.argsort(-taken, kind="stable")
                    if taken[label]
                },
            }
        )
    return rows


def errors(plots: Path) -> str:
    """The table of `stage_errors`, and what else is known of the errors."""
    run, rows = read_run(plots, BEST), stage_errors(plots)
    models, total = len(run.probabilities), sum(row["errors"] for row in rows)
    lines = []
    for row in rows:
        ends = wilson_interval(row["error"] * row["images"], row["images"])
        taken = ", ".join(
            f"{name} {count / models:.1f}" for name, count in row["taken_for"].items()
        )
        rate = f"{row['error']:.1%} {interval(*ends, '.1%')}"
        lines.append(
            [row["stage"], str(row["images"]), rate, f"{row['errors'] / total:.1%}", taken]
        )
    wrong = run.probabilities.argmax(2) != run.labels
    across = sum(row["taken_for"].get(NEIGHBOURS.get(row["stage"], ""), 0) for row in rows)
    listed, explained = suspects(plots)
    suspect = np.isin(np.arange(len(run.labels)), listed)
    twins = np.array([one.twin for one in read_table()["test"]])
    return "\n\n".join(
        [
            table(ERROR_HEADS, lines),
            f"`{BEST}`, eight views, mean over {models} models [Wilson interval over the stage's "
            f"images]. Accuracy {1 - wrong.mean():.4f}; counting as right metamyelocytes taken for "
            "neutrophils and band neutrophils taken for immature granulocytes, neighbours in "
            f"maturation: {1 - (wrong.sum() - across) / wrong.size:.4f}. The "
            f"{suspect.sum()} test images with suspect labels make {share(wrong, suspect)} of "
            f"the errors, the {twins.sum()} whose photograph is in the collection twice "
            f"{share(wrong, twins)}.{of_other_sizes(plots)}{older_code(run.metrics, explained)}",
        ]
    )


def suspects(plots: Path) -> tuple[list[int], dict]:
    """The test images whose labels explain.py suspects, and its metrics. Raises `UserError`."""
    metrics = read_study(plots, "explain")
    path = plots / "explain" / "suspect_labels.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [int(row["index"]) for row in csv.DictReader(file) if row["split"] == "test"]
    except OSError as error:
        raise UserError(f"{path}: cannot be read; run {STUDIES['explain'].command}") from error
    return rows, metrics


def of_other_sizes(plots: Path) -> str:
    """Sentences on the images whose photographs are not of the usual size."""
    runs = {f"`{BEST}`": read_run(plots, BEST), "the paper's CNN": read_run(plots, PAPER["CNN"])}
    other = np.array([one.size != USUAL_SIZE for one in read_table()["test"]])
    parts = []
    for name, run in runs.items():
        right = (run.probabilities.argmax(2) == run.labels).mean(0)  # of the models, by image
        rest = [right[~other & (run.labels == label)].mean() for label in run.labels[other]]
        ends = wilson_interval(right[other].sum(), int(other.sum()))
        parts.append(
            f"{name} {right[other].mean():.3f} {interval(*ends)}, against {np.mean(rest):.3f}"
        )
    return (
        f" Accuracy on the {other.sum()} images from photographs of other sizes than "
        f"{USUAL_SIZE[0]} x {USUAL_SIZE[1]}, and on the others at the same class frequencies: "
        f"{'; '.join(parts)}."
    )


def share(wrong: np.ndarray, images: np.ndarray) -> str:
    """The share of the errors, (models, N), that some images, bool (N,), make."""
    return f"{wrong[:, images].sum() / wrong.sum():.0%}"


def stages(plots: Path) -> str:
    """The recipe that names stages: accuracy, recall by stage, and what its errors are."""
    run, best = read_run(plots, STAGE_RUN), read_run(plots, BEST)
    metrics, predicted = run.metrics, run.probabilities.argmax(2)
    single = one_view(metrics)["accuracy"]
    views, test = metrics["config"]["views"], metrics["test"]
    scores = [
        [f"accuracy, {views} views", cell(test["accuracy"], 4)],
        ["accuracy, one view", cell(single, 4)],
        ["macro recall", cell(test["recall_macro"], 4)],
        ["macro AUC", cell(test["auc_macro"], 4)],
    ]
    lines = []
    for number, row in enumerate(metrics["test_per_class"]):
        wrong = predicted[:, run.labels == number]
        taken = np.bincount(wrong[wrong != number], minlength=len(STAGES))
        words = ", ".join(
            f"{STAGES[n]} {taken[n] / len(predicted):.1f}"
            for n in np.argsort(-taken, kind="stable")[:3]
            if taken[n]
        )
        lines.append([*class_cells(row), words])
    without = metrics["dataset"]["without_stage"]
    return "\n\n".join(
        [
            table(("metric", "test images with a stage"), scores),
            table(STAGE_HEADS, lines),
            f"`{STAGE_RUN}`: mean ± standard deviation over {len(predicted)} models [95 % "
            "bootstrap interval over test images]. Left out, since the photograph's name has no "
            f"stage: {without['train']} training, {without['val']} validation and "
            f"{without['test']} test images. {one_stage_off(run.labels, predicted):.0%} of the "
            "errors are one stage off on the line from promyelocyte to segmented neutrophil. "
            f"{collapsed(run, best)}"
            f"{older_code(metrics, best.metrics)}",
        ]
    )


def one_stage_off(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The share of the errors, predictions (models, N), between neighbours on one line."""
    place = np.full(len(STAGES), -9)
    for position, name in enumerate(MATURATION):
        place[STAGES.index(name)] = position
    truth, answer = place[np.broadcast_to(labels, predicted.shape)], place[predicted]
    wrong = predicted != labels
    return float(((abs(truth - answer) == 1) & wrong).sum() / wrong.sum())


def collapsed(run: SavedRun, best: SavedRun) -> str:
    """A sentence that compares the stages' classes with `BEST` on the same test images."""
    class_of = np.array([CLASS_NAMES.index(CLASS_OF[stage]) for stage in STAGES])
    known = np.array([one.stage in STAGES for one in read_table()["test"]])
    labels = class_of[run.labels]
    if not np.array_equal(labels, best.labels[known]):
        raise UserError(f"{run.folder} and {best.folder} differ in their test images")
    ours = run.probabilities @ np.eye(len(CLASS_NAMES))[class_of]
    theirs = best.probabilities[:, known]
    if len(ours) != len(theirs):
        raise UserError(f"{run.folder} and {best.folder} differ in their number of models")
    accuracy, best_accuracy = ((part.argmax(2) == labels).mean() for part in (ours, theirs))
    found = gain(labels, before=theirs.argmax(2), after=ours.argmax(2))
    return (
        f"Stages summed to classes: accuracy {accuracy:.4f}, against {best_accuracy:.4f} of "
        f"`{BEST}` on the same images: {in_words(found)}."
    )
