"""A worker of a study whose trials only sleep, which logs what it begins."""

import os
from pathlib import Path

from bloodcells.benchmarks import search_scaling
from bloodcells.search import study


def hasten() -> None:
    """Notice dead workers within seconds."""
    study.BEAT, study.GRACE = 0.5, 4


def work(url: str | None, folder: Path, total: int, seconds: float) -> None:
    """Take part in the study; logs in `folder` who begins which."""
    hasten()

    def log(slot: int) -> None:
        with open(folder / "log", "a") as file:
            file.write(f"{os.getpid()} {slot}\n")

    trials = search_scaling.work(url, folder, total, seconds, log)
    assert sorted(trial.params["slot"] for trial in trials) == list(range(total))
