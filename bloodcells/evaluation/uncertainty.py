"""How far a released network can be trusted: calibrated on validation, measured on test.

A member is one seed's model. Its metrics are those of `calibration.py`, before and after its
temperature, and the share of images that it flags as unlike its training images.
"""

from __future__ import annotations

import numpy as np
import torch

from bloodcells.data.bloodmnist import Dataset
from bloodcells.evaluation import calibration, metrics
from bloodcells.evaluation.metrics import mean_and_deviation
from bloodcells.inference.cards import LEVELS, VIEWS
from bloodcells.inference.classifier import Classifier
from bloodcells.tracking.run_folder import SavedRun

CELLS = "test images"


def measure(
    classifier: Classifier,
    dataset: Dataset,
    strange: dict[str, np.ndarray],
    false_alarms: float,
) -> dict:
    """Fit on validation, for each number of views, and score on test.

    `strange` holds out-of-distribution images by kind. The bound on the distance is set to flag at
    most the share `false_alarms` of the validation images as unlike the training images.

    Returns `views`, by number of views what `fit_and_score` returns; `farthest`, that bound; and
    `distances`, float (N,) for each kind of images, of which `CELLS` are the test images. Leaves
    the classifier with one view.
    """
    member: dict = {"views": {}}
    for classifier.views in VIEWS:
        val, _ = predict(classifier, dataset.val.images)
        test, test_distance = predict(classifier, dataset.test.images)
        member["views"][classifier.views] = fit_and_score(
            dataset.val.labels, val, dataset.test.labels, test
        )
    classifier.views = 1
    _, distance = predict(classifier, dataset.val.images)
    member["farthest"] = float(np.quantile(distance, 1 - false_alarms, method="higher"))
    member["distances"] = {CELLS: test_distance}
    member["distances"] |= {kind: predict(classifier, i)[1] for kind, i in strange.items()}
    return member


def predict(classifier: Classifier, images: np.ndarray) -> list[np.ndarray]:
    """Probabilities, (N, classes), and distances, (N,), of uint8 images."""
    device = classifier.means.device
    return [part.numpy() for part in classifier.predict(torch.from_numpy(images).to(device))]


def fit_and_score(
    val_labels: np.ndarray, val: np.ndarray, test_labels: np.ndarray, test: np.ndarray
) -> dict:
    """Fit the temperature and the set thresholds on validation, and score them on test."""
    temperature = calibration.fit_temperature(val_labels, val)
    sharp_val, sharp = (calibration.apply_temperature(p, temperature) for p in (val, test))
    sets = {x: calibration.set_threshold(val_labels, sharp_val, float(x)) for x in LEVELS}
    return {
        "temperature": temperature,
        "sets": sets,
        "before": calibration.scores(test_labels, test),
        "after": calibration.scores(test_labels, sharp),
        "set_scores": {x: calibration.set_scores(test_labels, sharp, sets[x]) for x in LEVELS},
        "probabilities": {"val": val, "before": test, "after": sharp},
    }


def summary(run: SavedRun, members: list[dict]) -> dict:
    """The mean and standard deviation of each metric over members."""
    views = {}
    for number in VIEWS:
        parts = [member["views"][number] for member in members]
        views[str(number)] = {
            "temperature": mean_and_deviation([part["temperature"] for part in parts]),
            **{
                when: {
                    k: mean_and_deviation([part[when][k] for part in parts]) for k in parts[0][when]
                }
                for when in ("before", "after")
            },
            "sets": {
                level: {
                    key: mean_and_deviation([part["set_scores"][level][key] for part in parts])
                    for key in parts[0]["set_scores"][level]
                }
                for level in LEVELS
            },
        }
    unlike = {}
    for kind in members[0]["distances"]:
        shares = [float((m["distances"][kind] > m["farthest"]).mean()) for m in members]
        unlike[kind] = {**mean_and_deviation(shares), "released": shares[0]}
    released = {str(n): part["after"]["accuracy"] for n, part in members[0]["views"].items()}
    return {
        "views": views,
        "called_unlike": unlike,
        "float16": rounding(run, members),
        "released": {"accuracy": released},
    }


def rounding(run: SavedRun, members: list[dict]) -> dict:
    """What rounding changes: the experiment's saved predictions against the members'.

    The members have weights in float16 and predict in float32; the experiment predicted in its own
    precision, such as bfloat16.
    """
    with np.load(run.folder / "predictions.npz") as saved:
        pairs = {
            "val": (saved["val_labels"], saved["val_probabilities"]),
            "test": (saved["labels"], saved["probabilities"]),
        }
    views = run.metrics["config"]["views"]
    result = {}
    for split, (labels, before) in pairs.items():
        key = "before" if split == "test" else split  # before temperature scaling
        after = np.stack([member["views"][views]["probabilities"][key] for member in members])
        changed = before.argmax(2) != after.argmax(2)
        tests = [
            metrics.mcnemar(labels, old.argmax(1), new.argmax(1))
            for old, new in zip(before, after, strict=True)
        ]
        result[split] = {
            "labels_changed": changed.sum(1).tolist(),
            "largest_difference": float(abs(before - after).max()),
            "mcnemar": tests,
        }
    return result


def line(member: dict) -> str:
    """The metrics of one seed's model, as one line."""
    after = member["views"][max(VIEWS)]["after"]
    return ", ".join(f"{name} {value:.4f}" for name, value in after.items())


def table(content: dict) -> str:
    """The metrics as a table for the console."""
    lines = ["test images, mean over models, before and after the temperature:"]
    for number, part in content["views"].items():
        for name in part["before"]:
            before, after = (part[when][name] for when in ("before", "after"))
            deviation = "" if after["std"] is None else f" +- {after['std']:.4f}"
            lines.append(
                f"  views {number}  {name:10} {before['mean']:.4f}  {after['mean']:.4f}{deviation}"
            )
        for level, values in part["sets"].items():
            lines.append(
                f"  views {number}  sets at {level}: coverage {values['coverage']['mean']:.4f}, "
                f"size {values['size']['mean']:.3f}"
            )
    lines.append("called unlike the training cells:")
    lines += [f"  {kind:26} {v['mean']:.4f}" for kind, v in content["called_unlike"].items()]
    changed = content["float16"]["test"]["labels_changed"]
    lines.append(f"labels of test images that rounding changed, by model: {changed}")
    return "\n".join(lines)
