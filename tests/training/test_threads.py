"""The threads of a process, and the notice of other trainings on the machine."""

import os
import tempfile

import joblib
import numpy as np
import pytest
import torch
import warm
from shared import QUICK, ROOT
from written import metrics_of, probabilities_of

from bloodcells.training import threads

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(autouse=True)
def as_before(monkeypatch, tmp_path):
    """Four cores, a temporary folder without other tests' trainings; restores the threads."""
    before = torch.get_num_threads()
    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def other(tmp_path):
    """Another process that trains, as far as the machine can tell."""
    ready, stop = warm.server.Event(), warm.server.Event()
    process = warm.server.Process(target=warm.train_nothing, args=(str(tmp_path), ready, stop))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_by_default_a_process_uses_no_more_than_its_quota(monkeypatch):
    torch.set_num_threads(3)
    threads.use_threads(None)
    assert torch.get_num_threads() == 3
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    threads.use_threads(None)
    assert torch.get_num_threads() == 2
    threads.use_threads(4)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    "command",
    [
        ("predict.py", ROOT / "docs/examples"),
        ("finetune.py", ROOT / "docs/examples", "--output", "x"),
        ("demo.py",),
        ("model_release.py", "--synthetic", "--run", ROOT / "plots/cnn-best"),
        *(
            (f"{name}.py", "--synthetic")
            for name in ("model_cnn", "model_parameter_tuning", "ablation", "batch_effect")
        ),
        *((f"{name}.py", "--synthetic") for name in ("explain", "robustness", "bench")),
    ],
    ids=lambda command: command[0],
)
def test_every_script_heeds_the_flag(run, tmp_path, monkeypatch, command):
    def asked(wanted):
        raise LookupError(f"threads {wanted}")

    monkeypatch.setattr("bloodcells.training.device.use_threads", asked)
    monkeypatch.setattr("demo.load_gradio", lambda host: None)
    monkeypatch.setattr("demo.refuse_address", lambda *_: None)
    outputs = ("--output", tmp_path / "o", "--weights", tmp_path / "a.safetensors")
    more = outputs if command[0] == "model_release.py" else ()
    with pytest.raises(LookupError, match="threads 3"):
        run(*command, *more, "--threads", 3)


def test_the_flag_sets_the_threads_and_changes_only_rounding(run, tmp_path):
    found = []
    for count in ("1", "2"):
        folder = tmp_path / count
        outcome = run("model_baseline.py", *QUICK, "--threads", count, "--output", str(folder))
        assert outcome.code == 0, outcome.err
        assert metrics_of(folder)["environment"]["threads"] == int(count)
        found.append(probabilities_of(folder))
    np.testing.assert_allclose(*found, atol=1e-4)


@pytest.mark.parametrize("count", ["0", "-1", "two", "99999", ""])
def test_a_wrong_number_of_threads_is_refused(run, tmp_path, count):
    outcome = run(
        "model_baseline.py", *QUICK, f"--threads={count}", "--output", str(tmp_path / "run")
    )
    assert outcome.code == 2
    assert f"--threads: {count!r} is not an integer" in outcome.err


def test_alone_nothing_is_said():
    torch.set_num_threads(4)
    with threads.trainings() as beside:
        assert beside.notice() is None
        assert beside.fair_share(others=0) == 4


def test_another_training_is_noticed_and_shares_the_cores(other):
    torch.set_num_threads(4)
    with threads.trainings() as beside:
        assert f"process {other.pid}" in beside.notice()
        assert "--threads 2" in beside.notice()
        beside.share_cores(None)
        assert torch.get_num_threads() == 2
        assert beside.notice() is None
        beside.share_cores(3)  # as the user asked
        assert torch.get_num_threads() == 3


def test_the_threads_of_another_training_count_as_they_are(other, tmp_path):
    torch.set_num_threads(1)
    with threads.trainings() as beside:
        (theirs,) = tmp_path.rglob(f"{other.pid}.threads")
        for count, noticed in (("3", False), ("4", True), ("", False)):  # of four cores
            theirs.write_text(count)
            assert bool(beside.notice()) == noticed
    assert [path.stem for path in tmp_path.rglob("*.threads")] == [str(other.pid)]


def test_the_next_training_has_the_cores_of_one_that_ended(other):
    torch.set_num_threads(4)
    with threads.trainings() as beside:
        beside.share_cores(None)
        assert torch.get_num_threads() == 2
    other.kill()
    other.join()
    with threads.trainings() as beside:
        beside.share_cores(None)
        assert torch.get_num_threads() == 4


def test_a_training_that_shares_no_core_is_not_counted(other, monkeypatch):
    with threads.trainings() as beside:
        assert beside.others() == [other.pid]
        monkeypatch.setattr(threads, "shares_cores_with", lambda process: False)
        assert beside.others() == []


def test_a_killed_training_is_forgotten(other, tmp_path):
    with threads.trainings() as beside:
        assert beside.others() == [other.pid]
        other.kill()
        other.join()
        assert beside.others() == []
        assert [path.stem for path in tmp_path.rglob("*.training")] == [beside.mine.stem]
    assert not list(tmp_path.rglob("*.training"))


def test_a_training_says_so_before_it_begins(run, other, tmp_path):
    folder = str(tmp_path / "run")
    outcome = run("model_baseline.py", *QUICK, "--threads", "4", "--output", folder)
    assert f"also training on this machine: process {other.pid};" in outcome.out
    outcome = run("model_baseline.py", *QUICK, "--threads", "2", "--output", folder, "--overwrite")
    assert "also training" not in outcome.out


def test_without_lock_files_each_goes_on_as_if_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    torch.set_num_threads(4)
    with threads.trainings() as beside:
        assert beside.mine is None
        assert beside.others() == []
        beside.share_cores(1)
    assert torch.get_num_threads() == 4
    with pytest.raises(ValueError, match="of the training") as failed, threads.trainings():
        raise ValueError("of the training")
    assert failed.value.__context__ is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells which cores")
def test_a_training_with_cores_of_its_own_is_not_counted(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1} if process else {2, 3})
    assert not threads.shares_cores_with(123)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 2} if process else {2, 3})
    assert threads.shares_cores_with(123)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_a_folder_of_another_user_is_left_alone(monkeypatch, tmp_path):
    theirs = tmp_path / f"bloodcells-{os.getuid() + 1}"
    theirs.mkdir()
    real = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: real + 1)
    with threads.trainings() as beside:
        assert beside.mine is None
    assert not list(theirs.iterdir())


def test_a_lock_that_cannot_be_asked_is_passed_over(other, monkeypatch):
    with threads.trainings() as beside:

        def broken(*_, **__):
            raise OSError

        monkeypatch.setattr(threads.filelock, "FileLock", broken)
        assert beside.others() == []
