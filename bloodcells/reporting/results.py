"""From trained models to a run folder: metrics, history, predictions, config and figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.torch import save
from torch import nn

from bloodcells import ROOT
from bloodcells.cli.arguments import LEAKS, SYNTHETIC, settings_of, warning
from bloodcells.cli.endings import as_typed
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Dataset, Split
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mean_and_deviation
from bloodcells.evaluation.run_metrics import gather_predictions, score_runs
from bloodcells.reporting.figures import training as figures
from bloodcells.reporting.tables.cells import scores_of_class
from bloodcells.tracking import run_folder
from bloodcells.tracking.files import read_entry
from bloodcells.tracking.run_folder import SavedRun
from bloodcells.training.record import Run
from bloodcells.training.session import Session
from models import count_parameters


def save_results(
    args: argparse.Namespace, dataset: Dataset, network: nn.Module, session: Session
) -> None:
    """Score a complete session's models, write the run folder `args.output`, print its table.

    `network` is any network of the trained architecture.
    """
    runs, labels = session.runs, dataset.test.labels
    arrays = gather_predictions(runs, args.protocol) | of_folds(runs, args.protocol)
    weights = [f"weights-{run.name}.safetensors" if args.save_weights else None for run in runs]
    content = {
        "dataset": dataset.describe(),
        "model": {"name": type(network).__name__, "parameters": count_parameters(network)},
        "config": settings_of(args),
        "code": args.code.describe(),
        "environment": session.environment,
        **score_runs(runs, arrays, dataset, args.protocol),
    }
    for row, name in zip(content["runs"], weights, strict=True):
        row["weights"] = name
    history = [row for run in runs for row in run.history]

    def fill(folder: Path) -> None:
        run_folder.write_toml(folder / "config.toml", content["config"])
        rows = [list(history[0]), *(list(row.values()) for row in history)]
        run_folder.write_csv(folder / "history.csv", rows)
        kept: dict[str, Any] = {"labels": labels, "split": "test", **arrays}
        np.savez_compressed(folder / "predictions.npz", **kept)
        for run, name in zip(runs, weights, strict=True):
            if name:
                # copies, as a block that a network uses twice has its weights under two names
                copies = {key: weight.clone() for key, weight in run.weights.items()}
                (folder / name).write_bytes(save(copies))
        draw(folder, args.figure_format, content, history, dataset.test, arrays["probabilities"])
        if (seconds := session.seconds()) is not None:
            content["command_seconds"] = seconds  # excludes writing the last file
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json", stale=["weights-seed-*.safetensors"])
    print(table(content))
    print(f"wrote {args.output}")
    base = ROOT / "plots" / args.config.stem
    if comparable(base, args.output, content):
        print(f"next: python report.py --compare {as_typed([str(base), str(args.output)])}")


def comparable(base: Path, output: Path, content: dict) -> bool:
    """Whether the preset's own experiment is another one, on the same data and protocol."""
    path = base / "metrics.json"
    theirs = read_entry(path, "dataset"), read_entry(path, "config", "protocol")
    alike = theirs == (content["dataset"], content["config"]["protocol"])
    return alike and base.resolve() != output.resolve()


def of_folds(runs: Sequence[Run], protocol: str) -> dict[str, np.ndarray]:
    """Under cross-validation, the held-out images of all folds, as those of one model.

    Fold by fold: the labels, and the probabilities (1, N, classes) by the fold's model.
    """
    if protocol != "cross-validation":
        return {}
    labels = cast(list[np.ndarray], [run.val_labels for run in runs])
    probabilities = cast(list[np.ndarray], [run.val_probabilities for run in runs])
    return {
        "val_labels": np.concatenate(labels),
        "val_probabilities": np.concatenate(probabilities)[None],
    }


def draw(
    folder: Path,
    suffix: str,
    content: dict,
    history: list[dict],
    test: Split,
    tested: np.ndarray,
) -> None:
    """Draw an experiment's figures; `tested`: test probabilities, (runs, N, classes)."""

    def path(name: str) -> Path:
        return folder / f"{name}.{suffix}"

    watermark = warning(argparse.Namespace(**content["config"]))
    counts = np.array(content["test_confusion_matrix"])
    alone = len(tested) == 1  # the model that is scored as published
    views = content["config"].get("views", 1)
    counted = f"test images, {views} view{'s' * (views > 1)}"
    counted += "" if alone else f", mean over {len(tested)} models"
    table = "predictions.npz" + ("" if alone else f", probability: mean over {len(tested)} models")
    figures.learning_curves(  # which show no test image
        path("learning_curves"),
        history,
        SYNTHETIC if content["dataset"]["synthetic"] else None,
        trained_on(content["config"]),
    )
    figures.confusion_matrix(
        path("confusion_matrix"), counts, test.names, watermark, counted=counted
    )
    figures.class_recall(
        path("class_recall"), content["test_per_class"], watermark, counted=counted
    )
    figures.confident_mistakes(
        path("confident_mistakes"),
        test.images,
        test.labels,
        tested.mean(0),
        test.names,
        watermark,
        table=table,
    )


def trained_on(config: dict) -> str:
    """How the images of the training curves differ from held-out ones; "" if they do not."""
    augmented = any(config.get(name) for name in ("dihedral", "shift", "domain_randomisation"))
    parts = {
        "changed at random": augmented,
        "mostly hard ones between warm-up and end": config.get("focus"),
        "with smoothed labels": config.get("label_smoothing"),
        "with a teacher's labels": config.get("teacher"),
    }
    words = [name for name, given in parts.items() if given]
    return f"training images: {', '.join(words)}" if words else ""


def draw_again(run: SavedRun, suffix: str, data_root: Path | None) -> None:
    """Redraw a finished experiment's figures from its files and the test images.

    Raises `UserError` if the files are damaged, or if the data set here is another.
    """
    dataset, rows = dataset_of(run, data_root), run_folder.read_history(run.folder)

    def fill(folder: Path) -> None:
        draw(folder, suffix, run.metrics, rows, dataset.test, run.probabilities)

    run_folder.write(run.folder, fill, last=f"learning_curves.{suffix}")
    print(f"drew the figures of {run.folder}")


def dataset_of(run: SavedRun, data_root: Path | None) -> Dataset:
    """The data set of a finished experiment. Raises `UserError` if another is here."""
    found = run.metrics["dataset"]
    if "photographs" in found["name"]:
        raise UserError(f"{run.folder}: not made from the official images: {found['name']}")
    labels = run.metrics["config"]["labels"]
    dataset = bloodmnist.load(data_root, found["size"], found["synthetic"], labels)
    if dataset.describe() != found:
        raise UserError(f"{run.folder}: made from another data set than the one here")
    return dataset


def table(content: dict) -> str:
    """Held-out accuracy, and the test metrics, overall and by class, for the console."""
    runs = sum(run["test"] is not None for run in content["runs"])
    lines = []
    if held_out := [run["val"]["accuracy"] for run in content["runs"] if run["val"]]:
        views, found = content["config"].get("views", 1), mean_and_deviation(held_out)
        spread = "" if found["std"] is None else f" +- {found['std']:.4f}"
        lines.append(
            f"held-out accuracy{'' if content['leaks_test_images'] else ', for choosing'}: "
            f"{found['mean']:.4f}{spread} ({views} view{'s' * (views > 1)})"
        )
    lines.append(
        f"{content['model']['name']} on {content['dataset']['counts']['test']:,} test images, for "
        f"reporting, {runs} run{'s' * (runs > 1)}: mean, standard deviation over runs, "
        "95 % bootstrap interval over test images"
    )
    lines += [summary_line(name, value) for name, value in content["test"].items()]
    for part, words in (("test_one_view", "one view"), ("test_ensemble", "ensemble")):
        if part in content:
            lines.append(summary_line(f"accuracy, {words}", content[part]["accuracy"]))
    floor = content["test_majority_class_accuracy"]
    lines.append(f"  {'majority class':22} {floor:.4f}  (accuracy of always predicting it)")
    by_class = "mean by class" if runs > 1 else "class"
    width = max(20, *(len(row["class"]) for row in content["test_per_class"]))
    lines.append(f"  {by_class:{width}} {'images':>6} {'precision':>9} {'recall':>7} {'F1':>7}")
    for row in content["test_per_class"]:
        precision, recall, f1 = scores_of_class(row)
        lines.append(
            f"  {row['class']:{width}} {row['support']:6} {precision:>9} {recall:>7} {f1:>7}"
        )
    if content["leaks_test_images"]:
        lines.append(f"NOTE {LEAKS}; only the last fold's model is scored.")
    if content["dataset"]["synthetic"]:
        lines.append(f"NOTE {SYNTHETIC}.")
    return "\n".join(lines)


def summary_line(name: str, value: dict) -> str:
    """One metric's mean, standard deviation and interval, aligned."""
    spread = "" if value["std"] is None else f"+- {value['std']:.4f}"
    return f"  {name:22} {value['mean']:.4f}  {spread:9}  [{value['low']:.4f}, {value['high']:.4f}]"
