"""The cells of tables, as Markdown, and what of an experiment's metrics they show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from bloodcells.evaluation.metrics import mean_and_deviation

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


def mean_and_interval(value: dict, form: str = ".3f") -> str:
    """A mean and the ends of its interval, without the deviation."""
    return f"{value['mean']:{form}} {interval(value['low'], value['high'], form)}"


def either(values: Iterable[object]) -> str:
    """The different values of several experiments, in words: one if they agree."""
    return " or ".join(sorted(set(map(str, values))))


def class_cells(row: dict) -> list[str]:
    """The cells of a class: its name, images, precision, and recall with its interval."""
    recall = f"{row['recall']:.3f} {interval(row['recall_low'], row['recall_high'])}"
    return [row["class"], str(row["support"]), f"{row['precision']:.3f}", recall]


def label_of(name: str, metrics: dict) -> str:
    """An experiment's name, with a warning if its models were trained on test images."""
    return name + " (trained on test images)" * metrics["leaks_test_images"]


def hardware(metrics: dict) -> str:
    """The processor or device of an experiment, and its threads."""
    environment = metrics["environment"]
    device = environment["device"]
    if device == "cpu":
        device = processor(environment)
    return f"{device}, {environment['threads']} threads"


def processor(environment: dict) -> str:
    """The processor, and its widest instructions if they are known: "Intel Xeon (AMX)"."""
    name = re.sub(r"\((R|TM)\)| Processor| CPU", "", environment["processor"])
    instructions = environment.get("instructions", "DEFAULT")  # torch's word for none, as on a Mac
    return name if instructions == "DEFAULT" else f"{name} ({instructions})"


def machine(metrics: dict) -> str:
    """The processor or device, threads and precision of an experiment."""
    return f"{hardware(metrics)}, {metrics['config']['precision']}"


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


def scores_of_class(row: dict) -> list[str]:
    """Precision, recall and F1 of a row of `metrics.per_class`; - for a class without images."""
    values = [row[key] for key in ("precision", "recall", "f1")]
    return [f"{value:.3f}" if row["support"] else "-" for value in values]
