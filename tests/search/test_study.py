"""Workers that share one study, die, sleep, and lose their database."""

import multiprocessing
import os
import signal
import time

import pytest
import search_worker
from optuna.trial import TrialState

from bloodcells.errors import UserError
from bloodcells.search import study as shared_study


def three_workers_of_which_two_are_killed(url, folder):
    """Each in its first trial; the third fills all slots, and no slot twice."""
    processes = multiprocessing.get_context("spawn")
    workers = [
        processes.Process(target=search_worker.work, args=(url, folder, 6, 0.8)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 60
    for victim in workers[:2]:
        while not (folder / "log").exists() or str(victim.pid) not in (folder / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(victim.pid, signal.SIGKILL)
    workers[2].join(60)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    begun = [line.split() for line in (folder / "log").read_text().splitlines()]
    survivor = [x for pid, x in begun if int(pid) == workers[2].pid]
    assert len(survivor) == len(set(survivor))
    twice = [x for x in range(6) if [y for _, y in begun].count(str(x)) > 1]
    assert 1 <= len(twice) <= 2  # what the dead ones were at, unless one had just ended


def test_workers_share_a_file_and_survive_kills(tmp_path):
    three_workers_of_which_two_are_killed(None, tmp_path)


def test_workers_share_postgresql_and_survive_kills(tmp_path, postgresql):
    three_workers_of_which_two_are_killed(postgresql, tmp_path)


def worker_of(tmp_path, total=2, **options):
    database = shared_study.Database(None, default=tmp_path / "a.db")
    study = database.study("s", {})
    return shared_study.Worker(database, study, total, lambda slot: {})


def test_trial_taken_over_while_alive(tmp_path, capsys):
    worker = worker_of(tmp_path)

    def objective(trial):
        if trial.number == 0:  # this process slept, and another one buried it
            worker.study.tell(0, state=TrialState.FAIL)
        return 1.0

    worker.run(objective, lambda trial, done: None)
    assert "another worker has taken it over" in capsys.readouterr().err
    assert [trial.number for trial in worker.filled()] == [1, 2]


def test_slot_that_kills_its_workers_is_given_up(tmp_path):
    worker = worker_of(tmp_path)
    for _ in range(shared_study.MOST_DEATHS + 1):
        with worker.database.turn():
            worker.study.tell(worker.take(), state=TrialState.FAIL)
    worker.run(lambda trial: 1.0, lambda trial, done: None)
    given_up, filled = worker.filled()
    assert (given_up.state, filled.state) == (TrialState.FAIL, TrialState.COMPLETE)


def test_database_that_fails_meanwhile(tmp_path):
    worker = worker_of(tmp_path)

    def objective(trial):
        (tmp_path / "a.db").write_text("no database any more " * 1000)
        trial.set_user_attr("x", 1)

    with pytest.raises(UserError, match=r"--storage sqlite:///.*a.db: "):
        worker.run(objective, lambda trial, done: None)
