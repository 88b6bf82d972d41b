"""The trained networks of a finished experiment."""

from __future__ import annotations

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

import models
from bloodcells.data.bloodmnist import LABELS
from bloodcells.errors import UserError
from bloodcells.tracking.run_folder import SavedRun


def load_networks(run: SavedRun, dataset: dict, flag: str) -> list[nn.Module]:
    """All models of a finished experiment. Raises `UserError` as `refuse_unfit` does."""
    refuse_unfit(run, dataset, flag)
    return [load_network(run, row["weights"]) for row in run.metrics["runs"]]


def refuse_unfit(run: SavedRun, dataset: dict, flag: str) -> None:
    """Raise `UserError` for a run without weights, of another data set, or trained on test images.

    `dataset` is what `Dataset.describe` returns; the message begins with `flag`.
    """
    theirs = run.metrics["dataset"]
    names = dataset | theirs
    if differ := [name for name in names if theirs.get(name) != dataset.get(name)]:
        raise UserError(f"{flag}: its data set is not the one here: {', '.join(differ)} differ")
    if run.metrics["leaks_test_images"]:
        raise UserError(f"{flag}: trained on these test images")
    files = [str(row.get("weights")) for row in run.metrics["runs"]]
    if not all((run.folder / name).is_file() for name in files):
        raise UserError(f"{flag}: it has no weights; train it with --save-weights")


def load_network(run: SavedRun, weights: str) -> nn.Module:
    """A model of a finished experiment, from its weights file `weights`. Raises `UserError`."""
    config, path = run.metrics["config"], run.folder / weights
    options = config.get("widths"), config.get("dropout")
    try:
        classes = len(LABELS[config["labels"]])
        model = models.build(run.metrics["model"]["name"], config["size"], *options, classes)
        model.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not this run's weights: {str(error)[:200]}") from error
    return model.eval()
