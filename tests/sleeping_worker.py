"""A worker of a study whose trials only sleep; apart from the tests, so that it starts fast."""

import os
import time
from pathlib import Path

import optuna

import study_store


def hasten() -> None:
    """Notice dead workers within seconds."""
    study_store.BEAT, study_store.GRACE, study_store.POLL = 0.5, 5, 0.2


def work(url: str | None, folder: Path, total: int, seconds: float) -> None:
    """Take part in the study "sleep" of `total` slots; logs in `folder` who begins which."""
    hasten()
    database = study_store.Database(url, default=folder / "study.db")
    study = database.study("sleep", {"version": 1})

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_int("x", 0, total - 1)
        with open(folder / "log", "a") as file:
            file.write(f"{os.getpid()} {x}\n")
        time.sleep(seconds)
        return x

    worker = study_store.Worker(database, study, total, lambda slot: {"x": slot})
    worker.run(objective, lambda trial, done: None)
    assert sorted(trial.value for trial in worker.filled()) == list(range(total))
