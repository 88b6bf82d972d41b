"""Redraw the figures of finished experiments and studies from their files."""

from __future__ import annotations

import functools
import operator
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from bloodcells.cli.arguments import warning
from bloodcells.errors import UserError
from bloodcells.reporting.figures import robustness, studies
from bloodcells.reporting.results import draw_again
from bloodcells.tracking import run_folder
from bloodcells.tracking.files import read_json
from bloodcells.tracking.provenance import RESULTS

FIGURES: dict[str, dict[str, tuple[Callable, tuple[str, ...]]]] = {
    # by script: its figures, what draws each, and where its file has the rows
    "ablation.py": {"ablation": (studies.ablation, ("variants",))},
    "batch_effect.py": {"batch_recall": (studies.batch_recall, ("scores", "recalls"))},
    "bench.py": {
        "network_speed": (studies.network_speed, ("networks",)),
        "operators": (studies.operators, ("networks",)),
        "growth": (studies.growth, ("growth",)),
    },
    "finetune.py": {"label_curve": (studies.label_curve, ())},
    "robustness.py": {"accuracy": (robustness.curves, ("rows",))},
}


def redraw(folder: Path, suffix: str, data_root: Path | None) -> None:
    """Redraw what a folder's files suffice for; experiments also need the test images.

    Raises `UserError` if the folder has no results, or those of a script whose figures need more.
    """
    path = next((folder / name for name in RESULTS if (folder / name).exists()), None)
    if path is None:
        raise UserError(f"{folder}: no results are here: none of {', '.join(RESULTS)}")
    found = read_json(path)
    script = found["code"]["script"]
    if run_folder.is_training(folder):
        draw_again(run_folder.read(folder), suffix, data_root)
        return
    if script not in FIGURES:
        raise UserError(f"{folder}: the figures of {script} need more than its files: run it anew")
    watermark = warning(Namespace(**{"synthetic": False, **found["config"]}))  # of a user's images
    drawn = {f"{name}.{suffix}": how for name, how in FIGURES[script].items()}

    def fill(scratch: Path) -> None:
        for name, (figure, keys) in drawn.items():
            figure(scratch / name, functools.reduce(operator.getitem, keys, found), watermark)

    run_folder.write(folder, fill, last=list(drawn)[-1])
    print(f"drew the figures of {folder}: {', '.join(drawn)}")
