"""From trained runs to a run folder: metrics, history, predictions, config and figures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from safetensors.torch import save
from torch import nn

from bloodcells.cli.arguments import LEAKS, PLACES, SEEDED, SYNTHETIC, WORK, warning
from bloodcells.data.bloodmnist import CLASS_NAMES, Dataset, Split
from bloodcells.data.folds import Run
from bloodcells.evaluation import metrics
from bloodcells.reporting.figures import style
from bloodcells.tracking import run_folder
from models import count_parameters


def config(args: argparse.Namespace) -> dict:
    """Every setting that the run's figures depend on; as TOML it is a preset of the same run."""
    left_out = (*PLACES, *WORK, "started")
    return {k: v for k, v in sorted(vars(args).items()) if k not in left_out}


def score_and_save(
    args: argparse.Namespace,
    dataset: Dataset,
    model: nn.Module,
    runs: list[Run],
    environment: dict,
) -> None:
    """Score the runs, write the run folder `args.output` and print its table."""
    labels = dataset.test.labels
    arrays = predictions(runs, args.protocol)
    tested = arrays["probabilities"]
    weights = [weights_name(run) if args.save_weights else None for run in runs]
    content = {
        "dataset": dataset.describe(),
        "model": {"name": type(model).__name__, "parameters": count_parameters(model)},
        "config": config(args),
        "environment": environment,
        "leaks_test_images": args.protocol == "as-published",
        "runs": [scored_run(run, labels, name) for run, name in zip(runs, weights, strict=True)],
        "test": metrics.summarise(labels, tested),
        "test_per_class": metrics.per_class(labels, tested, CLASS_NAMES),
        "test_confusion_matrix": metrics.confusion_matrix(labels, tested).tolist(),
        "test_majority_class_accuracy": metrics.majority_floor(dataset.train.labels, labels),
    }
    if "probabilities_one_view" in arrays:
        content["test_one_view"] = metrics.summarise(labels, arrays["probabilities_one_view"])
    if args.protocol in SEEDED and len(tested) > 1:
        content["test_ensemble"] = metrics.summarise(labels, tested.mean(0, keepdims=True))
    history = [row for run in runs for row in run.history]

    def fill(folder: Path) -> None:
        run_folder.write_toml(folder / "config.toml", content["config"])
        rows = [list(history[0]), *(list(row.values()) for row in history)]
        run_folder.write_csv(folder / "history.csv", rows)
        np.savez_compressed(folder / "predictions.npz", labels=labels, split="test", **arrays)
        for run, name in zip(runs, weights, strict=True):
            if name:
                (folder / name).write_bytes(save(run.weights))
        draw(folder, args, content, history, dataset.test, tested)
        if args.started is not None:  # not a part of a run that was resumed
            content["command_seconds"] = time.perf_counter() - args.started  # all before this
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json", stale="weights-*.safetensors")
    print(table(content))
    print(f"wrote {args.output}")


def predictions(runs: list[Run], protocol: str) -> dict[str, np.ndarray]:
    """The probabilities of predictions.npz, (runs, N, classes), of the runs that read test."""
    scored = [run for run in runs if run.test_probabilities is not None]
    arrays = {"probabilities": np.stack([run.test_probabilities for run in scored])}
    if scored[0].test_one_view is not None:
        arrays["probabilities_one_view"] = np.stack([run.test_one_view for run in scored])
    if protocol == "official":  # the same held-out images in every run
        arrays["val_labels"] = runs[0].val_labels
        arrays["val_probabilities"] = np.stack([run.val_probabilities for run in runs])
    return arrays


def scored_run(run: Run, test_labels: np.ndarray, weights: str | None) -> dict:
    """A row of the `runs` of `metrics.json`; `weights` names the file of the run's weights."""
    val, test = run.val_probabilities, run.test_probabilities
    return {
        "seed": run.seed,
        "fold": run.fold,
        "train_seconds": run.train_seconds,
        "machine_gflops": run.machine_gflops,
        "weights": weights,
        "val": None if val is None else metrics.scores(run.val_labels, val),
        "test": None if test is None else metrics.scores(test_labels, test),
    }


def weights_name(run: Run) -> str:
    """weights-seed-0.safetensors, or weights-seed-0-fold-2.safetensors."""
    return f"weights-{run.name}.safetensors"


def draw(
    folder: Path,
    args: argparse.Namespace,
    content: dict,
    history: list[dict],
    test: Split,
    tested: np.ndarray,
) -> None:
    """The run's figures; `tested` holds the test probabilities, (runs, N, classes)."""

    def path(name: str) -> Path:
        return folder / f"{name}.{args.figure_format}"

    mark = warning(args)
    counts = np.array(content["test_confusion_matrix"])
    style.learning_curves(path("learning_curves"), history, mark)
    style.confusion_matrix(path("confusion_matrix"), counts, CLASS_NAMES, mark)
    style.class_recall(path("class_recall"), content["test_per_class"], mark)
    style.confident_mistakes(
        path("confident_mistakes"), test.images, test.labels, tested.mean(0), CLASS_NAMES, mark
    )


def table(content: dict) -> str:
    """The run's test metrics and its classes, for the console."""
    runs = sum(run["test"] is not None for run in content["runs"])
    lines = [
        f"{content['model']['name']} on {content['dataset']['counts']['test']:,} test images, "
        f"{runs} run{'s' * (runs > 1)}: mean, standard deviation over runs, "
        "95 % interval of test sampling"
    ]
    lines += [summary_line(name, value) for name, value in content["test"].items()]
    for part, words in (("test_one_view", "one view"), ("test_ensemble", "all models")):
        if part in content:
            lines.append(summary_line(f"accuracy, {words}", content[part]["accuracy"]))
    floor = content["test_majority_class_accuracy"]
    lines.append(f"  {'majority class':22} {floor:.4f}  (accuracy of always naming it)")
    lines.append(f"  {'class':20} {'images':>6} {'precision':>9} {'recall':>7} {'F1':>7}")
    for row in content["test_per_class"]:
        lines.append(
            f"  {row['class']:20} {row['support']:6} {row['precision']:9.3f} "
            f"{row['recall']:7.3f} {row['f1']:7.3f}"
        )
    if content["leaks_test_images"]:
        lines.append(f"NOTE {LEAKS}; only the last fold's model is scored.")
    if content["dataset"]["synthetic"]:
        lines.append(f"NOTE {SYNTHETIC}.")
    return "\n".join(lines)


def summary_line(name: str, value: dict) -> str:
    """One metric's mean, spread and interval, aligned."""
    spread = "" if value["std"] is None else f"+- {value['std']:.4f}"
    return f"  {name:22} {value['mean']:.4f}  {spread:9}  [{value['low']:.4f}, {value['high']:.4f}]"
