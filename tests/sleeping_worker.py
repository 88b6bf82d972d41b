"""A worker of a study whose trials only sleep, which logs what it begins."""

import os
from pathlib import Path

import sleeping
import study_store


def hasten() -> None:
    """Notice dead workers within seconds."""
    study_store.BEAT, study_store.GRACE = 0.5, 5


def work(url: str | None, folder: Path, total: int, seconds: float) -> None:
    """Take part in the study; logs in `folder` who begins which."""
    hasten()

    def log(slot: int) -> None:
        with open(folder / "log", "a") as file:
            file.write(f"{os.getpid()} {slot}\n")

    trials = sleeping.work(url, folder, total, seconds, log)
    assert sorted(trial.value for trial in trials) == list(range(total))
