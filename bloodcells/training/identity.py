"""What an experiment is, so that no other one is resumed: its settings, code, data and network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bloodcells.cli.arguments import settings_of
from bloodcells.data.bloodmnist import Dataset
from bloodcells.errors import UserError
from bloodcells.tracking import run_folder
from bloodcells.tracking.code_hash import different
from bloodcells.tracking.files import read_json
from bloodcells.training import distributed

OF_NO_MODEL = ("device", "save_weights", "figure_format", "released")  # may differ when resumed


def identity_of(
    args: argparse.Namespace, dataset: Dataset, network: nn.Module, device: torch.device
) -> dict:
    """What must be the same when the experiment is resumed, as JSON can hold it."""
    found = {
        **{key: value for key, value in settings_of(args).items() if key not in OF_NO_MODEL},
        "script": args.code.script,
        "code": args.code.files,
        "data file": dataset.describe(),
        "network": str(network),
        "device type": device.type,
        "torch version": torch.__version__,
        "processes": distributed.size(),
    }
    if getattr(args, "teacher", None):  # of the same name there may be others
        found["teacher's weights"] = run_folder.weights_md5(run_folder.find(args.teacher))
    return found


def kept_identity(path: Path) -> dict:
    """The identity of an unfinished experiment. Raises `UserError`."""
    try:
        kept = read_json(path)
        if not isinstance(kept, dict) or not isinstance(kept.get("code", {}), dict):
            raise ValueError("it names no experiment")
        return kept
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: damaged: {error}; without it, the models trained there cannot be resumed: "
            "restore it, or pass --overwrite to start again"
        ) from error


def finished_identity(result: Path) -> dict:
    """The identity of a finished experiment, as far as its results say. Raises `UserError`."""
    try:
        content = read_json(result)
        code = {"script": content["code"]["script"], "code": content["code"]["files"]}
        beside = {"elsewhere": content.get("elsewhere"), "weights": content.get("released_md5")}
        return {**content["config"], **beside, **code, "data file": content["dataset"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{result}: damaged; pass --overwrite to replace it") from error


def compare(kept: dict, now: dict, run: Path) -> None:
    """Raise `UserError` if the identities `kept` and `now` differ in a key that both have."""
    other = [key for key in sorted(kept) if key in now and kept[key] != now[key]]
    if not other:
        return
    changes = [difference(key, kept[key], now[key]) for key in other]
    raise UserError(
        f"--resume: {run} holds another experiment (different {'; '.join(changes)}); use its "
        "settings, another --output, or --overwrite to start again"
    )


def difference(key: str, kept: Any, now: Any) -> str:
    """What differs between two identities, as text."""
    if key == "code":
        return f"code: {', '.join(different(kept, now))}"
    return key if key in ("network", "data file") else f"{key} {kept} there, {now} now"
