"""The trained networks of a finished experiment."""

from __future__ import annotations

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

import models
from bloodcells.data.bloodmnist import LABELS
from bloodcells.errors import UserError
from bloodcells.tracking.run_folder import SavedRun


def load_network(run: SavedRun, weights: str) -> nn.Module:
    """A model of a finished experiment, from its weights file `weights`. Raises `UserError`."""
    name, config, path = run.metrics["model"]["name"], run.metrics["config"], run.folder / weights
    classes = len(LABELS[config.get("labels", "classes")])
    options = config.get("widths"), config.get("dropout")
    model = models.build(name, config["size"], *options, classes)
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: not this run's weights: {error}") from error
    return model.eval()
