"""What an experiment is, so that no other one is resumed: its settings, code, data and network."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bloodcells.cli.arguments import settings_of
from bloodcells.data.bloodmnist import Dataset
from bloodcells.data.photographs import TABLE
from bloodcells.errors import UserError
from bloodcells.tracking import run_folder
from bloodcells.tracking.code_hash import different
from bloodcells.tracking.files import read_json
from bloodcells.training import distributed

OF_NO_MODEL = ("device", "save_weights", "figure_format", "released")  # may differ when resumed
ONLY_WHILE_TRAINING = ("save_weights", "released")  # refused once the models are gone


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
    if getattr(args, "labels", None) == "stages" or args.code.script == "batch_effect.py":
        found["MD5 of the table of photographs"] = md5(TABLE.read_bytes())
    if getattr(args, "teacher", None):  # of the same name there may be others
        found["teacher's weights"] = run_folder.weights_md5(run_folder.find(args.teacher))
    return found


def mark_of(identity: dict) -> str:
    """A digest of an identity, which marks the checkpoint files of its experiment."""
    return md5(json.dumps(identity, sort_keys=True).encode())


def md5(content: bytes) -> str:
    """The MD5 of some bytes, a checksum only."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def refuse_other_processes(mine: dict) -> None:
    """End with exit code 2 if one of torchrun's processes is of another experiment than the first.

    That one raises a `UserError`, which says what differs.
    """
    changes = differences(distributed.from_first(lambda: mine), mine)
    if not distributed.summed([float(bool(changes))], torch.device("cpu"))[0]:
        return
    if not changes:
        raise SystemExit(2)
    raise UserError(
        f"process {distributed.rank()} of torchrun has another experiment than process 0 "
        f"(different {'; '.join(changes)}); give all the same code, settings and data, and "
        "--precision if their processors differ"
    )


def kept_identity(path: Path, again: str) -> dict:
    """The identity of an unfinished experiment. Raises `UserError`; `again`: how to replace it."""
    try:
        kept = read_json(path)
        if not isinstance(kept, dict) or not isinstance(kept.get("code", {}), dict):
            raise ValueError("it names no experiment")
        return kept
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: damaged: {error}; without it, the models trained there cannot be resumed: "
            f"restore it, or {again} to start again"
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


def refuse_what_needs_the_models(args: argparse.Namespace, result: Path, again: str) -> None:
    """Raise `UserError` if this command asks for what a finished experiment does not have.

    Its models are gone: no weights can be saved, and no other images scored.
    """
    kept, settings = finished_identity(result), settings_of(args)
    asked = {key: settings[key] for key in ONLY_WHILE_TRAINING if settings.get(key)}
    if getattr(args, "elsewhere", None):
        asked["elsewhere"] = args.elsewhere.name
    if getattr(args, "released", None):
        asked["weights"] = md5(run_folder.find(args.released).read_bytes())
    refuse_another_experiment(kept, asked, args.output, again)


def refuse_another_experiment(kept: dict, now: dict, run: Path, again: str) -> None:
    """Raise `UserError` if a folder's experiment is another one; `again` is how to replace it."""
    if changes := differences(kept, now):
        raise UserError(  # with --output, as that of other settings has another default
            f"--output {run}: it holds another experiment (different {'; '.join(changes)}); use "
            f"its settings with this --output, or another --output; or {again} to start again"
        )


def differences(kept: dict, now: dict) -> list[str]:
    """What differs between two identities, as text, of the keys that both have."""
    shared = [key for key in sorted(kept) if key in now]
    return [difference(key, kept[key], now[key]) for key in shared if kept[key] != now[key]]


def difference(key: str, kept: Any, now: Any) -> str:
    """One difference between two identities, as text."""
    if key == "code":
        return f"code: {', '.join(different(kept, now))}"
    return key if key in ("network", "data file") else f"{key} {kept} there, {now} now"
