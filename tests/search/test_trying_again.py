"""Trials that died, were stopped or lacked memory are tried again, or given up."""

import pytest
import search_worker
import torch
from optuna.trial import TrialState

from bloodcells.search import study as shared_study
from bloodcells.search.database import Database


def test_trial_that_dies_before_it_draws_its_settings(tmp_path):
    database = Database(None, default=tmp_path / "a.db")
    study = database.study("s", {})
    worker = shared_study.Worker(database, study, 2, lambda slot: {"lr": 0.1 * (slot + 1)})
    with database.turn():
        study.tell(worker.take(), state=TrialState.FAIL)
    worker.run(lambda trial: trial.suggest_float("lr", 0, 1), lambda trial, done: None)
    assert [trial.params["lr"] for trial in worker.filled()] == pytest.approx([0.1, 0.2])


def test_models_stay_with_their_settings_where_workers_die_again_and_again(tmp_path):
    worker = search_worker.sole(tmp_path)
    given = {}

    def dies(trial, drawn):
        for name in ("lr", "weight_decay")[:drawn]:
            value = trial.suggest_float(name, 0, 1)
            assert given.setdefault(name, value) == value
        worker.study.tell(trial, state=TrialState.FAIL)

    with worker.database.turn():
        first = worker.take()
        first.set_user_attr(shared_study.MODELS, ["a model"])
        dies(first, 2)
        for drawn in (0, 1, 0, 2):
            again = worker.take()
            assert again.user_attrs[shared_study.MODELS] == ["a model"]
            dies(again, drawn)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(shared_study, "REST", 0)


def lack(trial):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_trial_that_lacks_memory_is_tried_again_after_the_others(tmp_path, monkeypatch):
    worker, begun = search_worker.sole(tmp_path), []

    def lacks_once(trial):
        begun.append(trial.user_attrs["slot"])
        return 1.0 if len(begun) > 1 else lack(trial)

    worker.run(lacks_once, lambda trial, done: None)
    assert begun == [0, 1, 0]
    assert list(worker.lacked) == [0]
    assert not worker.rests(0)
    monkeypatch.setattr(shared_study, "REST", 60)
    assert worker.rests(0)
    assert not worker.rests(1)
    assert [trial.state for trial in worker.filled()] == [TrialState.COMPLETE] * 2
    assert not any(map(shared_study.failure, worker.filled()))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        MemoryError(),
    ],
)
def test_a_combination_that_never_fits_memory_is_given_up(tmp_path, error):
    worker, told = search_worker.sole(tmp_path), []

    def never_fits(trial):
        if trial.user_attrs["slot"] == 0:
            raise error
        return 1.0

    worker.run(never_fits, lambda trial, done: told.append(shared_study.failure(trial)))
    too_large, trained = worker.filled()
    assert trained.state == TrialState.COMPLETE
    assert len(told) == 4
    assert "out of memory" in shared_study.failure(too_large)
    assert told.count(shared_study.failure(too_large)) == 3


def test_the_same_command_again_tries_what_lacked_memory(tmp_path):
    worker = search_worker.sole(tmp_path)
    for _ in range(shared_study.MOST_DEATHS):
        worker.before = None  # as in a new process
        worker.run(lambda trial: 1.0 if trial.user_attrs["slot"] else lack(trial), lambda *_: None)
        assert worker.filled()[0].state == TrialState.FAIL
    again = shared_study.Worker(worker.database, worker.study, 2, lambda slot: {})
    begun = []
    again.run(lambda trial: begun.append(trial.user_attrs["slot"]) or 1.0, lambda *_: None)
    assert begun == [0]
    assert [trial.state for trial in worker.filled()] == [TrialState.COMPLETE] * 2


def test_a_slot_that_another_worker_tries_again_is_waited_for(tmp_path):
    worker = search_worker.sole(tmp_path)
    worker.run(lambda trial: 1.0 if trial.user_attrs["slot"] else lack(trial), lambda *_: None)
    again = shared_study.Worker(worker.database, worker.study, 2, lambda slot: {})
    again.before = len(worker.study.trials)
    with worker.database.turn():
        again.take()
    assert [trial.user_attrs["slot"] for trial in worker.filled()] == [1]


def test_other_errors_of_torch_end_the_worker(tmp_path):
    def wrong(trial):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        search_worker.sole(tmp_path).run(wrong, None)


def test_slot_whose_trials_get_on_is_not_given_up(tmp_path):
    worker = search_worker.sole(tmp_path)
    for models in range(shared_study.MOST_DEATHS + 2):
        with worker.database.turn():
            trial = worker.take()
            trial.set_user_attr(shared_study.MODELS, [{}] * models)
            worker.study.tell(trial, state=TrialState.FAIL)
    assert worker.take().user_attrs["slot"] == 0


def test_slot_that_kills_its_workers_is_given_up(tmp_path):
    worker = search_worker.sole(tmp_path)
    for _ in range(shared_study.MOST_DEATHS + 1):
        with worker.database.turn():
            worker.study.tell(worker.take(), state=TrialState.FAIL)
    worker.run(lambda trial: 1.0, lambda trial, done: None)
    given_up, filled = worker.filled()
    assert (given_up.state, filled.state) == (TrialState.FAIL, TrialState.COMPLETE)


def test_stopping_is_no_death(tmp_path):
    worker = search_worker.sole(tmp_path)

    def stopped(trial):
        raise KeyboardInterrupt

    for _ in range(shared_study.MOST_DEATHS + 1):
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            worker.run(stopped, lambda trial, done: None)
    worker.run(lambda trial: 1.0, lambda trial, done: None)
    assert [trial.state for trial in worker.filled()] == [TrialState.COMPLETE] * 2
    assert not [t for t in worker.filled() if shared_study.STOPPED in t.user_attrs]
