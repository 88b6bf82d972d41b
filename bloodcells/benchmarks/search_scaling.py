"""A search whose trials only sleep: what the sharing of trials costs, on any number of cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import cast

import optuna
from optuna.trial import FrozenTrial

from bloodcells.search import study as shared_study


def work(
    url: str | None,
    folder: Path,
    total: int,
    seconds: float,
    begun: Callable[[int], None] = lambda slot: None,
) -> list[FrozenTrial]:
    """Take part in a study of `total` trials; returns all of them when the last one is done.

    `url` and `folder` say where the study is; `begun` takes the number of each trial begun here.
    """
    shared_study.POLL = 0.1  # these trials are shorter than those that it is made for
    database = shared_study.Database(url, default=folder / "study.db")
    study = database.study("sleep", {"version": 1})

    def objective(trial: optuna.Trial) -> float:
        slot = trial.suggest_int("slot", 0, total - 1)
        begun(slot)
        time.sleep(seconds)
        return float(slot)

    worker = shared_study.Worker(database, study, total, lambda slot: {"slot": slot})
    worker.run(objective, lambda trial, done: None)
    return worker.filled()


def wall_seconds(workers: int, total: int, seconds: float) -> float:
    """From the first trial's begin to the last one's end, with so many processes on one file."""
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(workers)  # torch takes seconds to load
    with tempfile.TemporaryDirectory() as folder:
        settings = together, Path(folder), total, seconds
        others = [spawn.Process(target=work_at_once, args=settings) for _ in range(workers - 1)]
        for process in others:
            process.start()
        trials = work_at_once(*settings)
        for process in others:
            process.join()
    begin = min(cast(datetime, trial.datetime_start) for trial in trials)
    end = max(cast(datetime, trial.datetime_complete) for trial in trials)
    return (end - begin).total_seconds()


def work_at_once(together: Barrier, folder: Path, total: int, seconds: float) -> list[FrozenTrial]:
    """`work` on a file, begun when all are ready."""
    together.wait(timeout=120)
    with contextlib.redirect_stdout(None):  # each tells that it waits for the others
        return work(None, folder, total, seconds)
