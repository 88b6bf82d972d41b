"""Workers of a study: one whose trials only sleep, which logs what it begins; one for tests."""

import os
from pathlib import Path

from bloodcells.benchmarks import search_scaling
from bloodcells.search import study
from bloodcells.search.database import Database


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


def sole(folder: Path, url: str | None = None) -> study.Worker:
    """A worker of a study of two slots."""
    database = Database(url, default=folder / "a.db")
    return study.Worker(database, database.study("s", {}), 2, lambda slot: {})
