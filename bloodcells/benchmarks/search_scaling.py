"""A search whose trials only sleep: the overhead of sharing them, on any number of cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import cast

import optuna
from optuna.trial import FrozenTrial

from bloodcells.errors import UserError
from bloodcells.search import study as shared_study
from bloodcells.search.database import Database


def work(
    url: str | None,
    folder: Path,
    total: int,
    seconds: float,
    begun: Callable[[int], None] = lambda slot: None,
) -> list[FrozenTrial]:
    """Work on a study of `total` trials; returns all of them when the last one is done.

    The study is at `url`, or else in `folder`. `begun` is called with the slot of each trial that
    starts here.
    """
    shared_study.POLL = 0.1  # these trials are shorter than real ones
    database = Database(url, default=folder / "study.db")
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
    """Seconds from the first trial's start to the last one's end, with `workers` processes.

    Raises `UserError` if one fails.
    """
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(workers)  # all start together: torch takes seconds to load
    # Windows does not delete the database while this process has it open
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = together, Path(folder), total, seconds
        others = [
            spawn.Process(target=work_at_once, args=settings, daemon=True)
            for _ in range(workers - 1)
        ]
        for process in others:
            process.start()
        try:
            trials = work_at_once(*settings)
        except threading.BrokenBarrierError as error:
            raise UserError("a worker of the search that only sleeps did not start") from error
        for process in others:
            process.join()
    if failed := [process.exitcode for process in others if process.exitcode]:
        raise UserError(f"a worker of the search that only sleeps ended with code {failed[0]}")
    begin = min(cast(datetime, trial.datetime_start) for trial in trials)
    end = max(cast(datetime, trial.datetime_complete) for trial in trials)
    return (end - begin).total_seconds()


def work_at_once(together: Barrier, folder: Path, total: int, seconds: float) -> list[FrozenTrial]:
    """`work` on a database file, started when all workers are ready."""
    together.wait(timeout=120)
    with contextlib.redirect_stdout(None):  # hides the line that says a worker waits
        return work(None, folder, total, seconds)
