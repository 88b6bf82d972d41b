"""Runs that are killed, stopped, spread over processes: they end as if nothing had happened."""

import csv
import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from conftest import ROOT
from disk_faults import EVERY

import model_cnn
from bloodcells.evaluation import prediction
from bloodcells.tracking import provenance
from bloodcells.training import checkpoint, interruption, session

SMALL = (
    *("--config", "cnn-fast-60", "--synthetic", "--device", "cpu", "--batch-size", 96),
    *("--widths", 4, 4, 8, "--runs", 2, "--epochs", 4, "--focus", 0.4, "--warmup", 0.3),
)
TIMES = {"train_seconds", "machine_gflops", "command_seconds"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_once):
    """The folder of the run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_once("model_cnn.py", *SMALL, "--output", folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    """They take longer than these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bloodcells.reporting.results.draw", lambda *_: None)
        yield


def timeless(value):
    """A value without the times that are anywhere in it."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def metrics_of(folder):
    """Everything in metrics.json but the times and where it ran."""
    found = timeless(json.loads((folder / "metrics.json").read_text()))
    del found["environment"], found["code"]  # which others may edit in the meantime
    found["config"] = {k: v for k, v in found["config"].items() if k in ("lr", "epochs", "seed")}
    return found


def same(one, other):
    """The same figures, and the same probabilities bit for bit; nothing is left over."""
    assert metrics_of(one) == metrics_of(other)
    histories = [list(csv.DictReader((f / "history.csv").open())) for f in (one, other)]
    assert [timeless(row) for row in histories[0]] == [timeless(row) for row in histories[1]]
    arrays, others = (np.load(folder / "predictions.npz") for folder in (one, other))
    assert set(arrays) == set(others)
    for name in arrays:
        assert arrays[name].tobytes() == others[name].tobytes(), name
    assert not (other / "checkpoint").exists()
    assert not list(other.rglob("*.part"))


def stopped(run, folder, monkeypatch, epoch, flags=SMALL):
    """Begin a run and have it interrupted once after so many epochs, in all models."""
    save, count = checkpoint.Checkpoint.save, []

    def save_then_stop(self, *args):
        save(self, *args)
        count.append(1)
        if len(count) == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", save_then_stop)
        outcome = run("model_cnn.py", *flags, "--output", folder)
    assert outcome.code == 130, outcome
    return outcome


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_killed_again_and_again(whole, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    runs = tmp_path / "runs"
    command = [sys.executable, str(ROOT / "tests/forked_runs.py"), str(notes), str(runs)]
    flags = [*map(str, SMALL), "--resume"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [*command, *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    at_random, within_a_write, resumed = map(int, done.stdout.split()[-3:])
    assert at_random == within_a_write == (10 if EVERY else 5)
    assert resumed >= 1
    for run in runs.iterdir():
        same(whole, run)


@pytest.mark.parametrize("epoch", [1, 4, 5])  # within the first model, at its end, in the second
def test_stopped_and_resumed(run, whole, tmp_path, monkeypatch, epoch):
    outcome = stopped(run, tmp_path, monkeypatch, epoch)
    command = f"python model_cnn.py {' '.join(map(str, SMALL))} --output {tmp_path} --resume"
    assert outcome.err.strip() == f"stopped; resume with: {command}"
    assert not (tmp_path / "metrics.json").exists()
    resumed = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert resumed.code == 0, resumed
    assert resumed.out.count(" epoch ") == 8 - epoch  # no epoch twice
    same(whole, tmp_path)


def test_paper_recipe_resumes_too(run, tmp_path, monkeypatch):
    """Adam, and dropout, which draws from torch's own random numbers."""
    flags = ("--synthetic", "--device", "cpu", "--folds", 2, "--epochs", 3)
    assert run("model_cnn.py", *flags, "--output", tmp_path / "whole").code == 0
    stopped(run, tmp_path / "b", monkeypatch, 2, flags)
    assert run("model_cnn.py", *flags, "--output", tmp_path / "b", "--resume").code == 0
    same(tmp_path / "whole", tmp_path / "b")


def test_checkpoint_less_often(run, whole, tmp_path, monkeypatch):
    written = []
    write = checkpoint.write_whole
    monkeypatch.setattr(
        checkpoint, "write_whole", lambda p, c: written.append(p.name) or write(p, c)
    )
    flags = (*SMALL, "--checkpoint-every", 3)
    stopped(run, tmp_path, monkeypatch, 2, flags)
    assert written == ["identity.json", "seed-0.pt"]  # at the stop alone
    run("model_cnn.py", *flags, "--output", tmp_path, "--resume")
    same(whole, tmp_path)


def test_seeds_spread_over_processes(run, whole, tmp_path):
    first = run("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 1)
    assert "done; once all models are trained, run: python model_cnn.py" in first.out, first
    assert not (tmp_path / "metrics.json").exists()
    last = run("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 0)
    assert last.code == 0, last
    same(whole, tmp_path)


def test_two_that_finish_together(run, whole, tmp_path, monkeypatch):
    flags = ("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed")
    finish = session.Session.finish

    def the_other_is_faster(self, *rest):
        finish(self, *rest)
        monkeypatch.setattr(session.Session, "finish", finish)
        assert run(*flags, 0).code == 0

    monkeypatch.setattr(session.Session, "finish", the_other_is_faster)
    outcome = run(*flags, 1)
    assert outcome.code == 0, outcome
    assert "another process wrote the results" in outcome.out
    same(whole, tmp_path)


def test_only_what_there_is(fails, tmp_path):
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 7)
    assert "--only-seed 7: this experiment has no such seed" in line
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--only-fold", 0)
    assert "--only-fold 0: this experiment has no such fold" in line


def test_finished_run_is_not_overwritten(fails, run, whole):
    before = (whole / "metrics.json").read_bytes()
    line = fails("model_cnn.py", *SMALL, "--output", whole)
    assert "it holds a finished experiment; pass --overwrite" in line
    outcome = run("model_cnn.py", *SMALL, "--output", whole, "--resume")
    assert (outcome.code, "finished already" in outcome.out) == (0, True)
    line = fails("model_cnn.py", *SMALL, "--output", whole, "--resume", "--save-weights")
    assert "save_weights False there, True now" in line  # the models are gone
    assert (whole / "metrics.json").read_bytes() == before


def test_unfinished_run_is_not_begun_anew_by_chance(fails, run, whole, tmp_path, monkeypatch):
    stopped(run, tmp_path, monkeypatch, 2)
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path)
    assert "it holds an unfinished experiment; pass --resume" in line
    outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--overwrite")
    assert outcome.out.count(" epoch ") == 8
    same(whole, tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--lr", 0.01), "lr 0.005 there, 0.01 now"),
        (("--widths", 4, 8, 8), "different network; widths [4, 4, 8] there, [4, 8, 8] now"),
        (("--seed", 3), "seed 0 there, 3 now"),
    ],
)
def test_resuming_something_else(run, fails, tmp_path, monkeypatch, flags, said):
    stopped(run, tmp_path, monkeypatch, 1)
    line = fails("model_cnn.py", *SMALL, *flags, "--output", tmp_path, "--resume")
    assert said in line


def test_resuming_with_other_code_or_data(run, fails, tmp_path, monkeypatch):
    stopped(run, tmp_path, monkeypatch, 1)
    path = tmp_path / "checkpoint" / "identity.json"
    identity = json.loads(path.read_text())
    code = {**identity["code"], "model_cnn.py": "x", "models.py": "y"}
    for key, other, said in (
        ("code", code, "code: model_cnn.py, models.py"),
        ("data file", {}, "data file"),
        ("torch version", "1.0", "torch version 1.0 there"),
    ):
        path.write_text(json.dumps({**identity, key: other}))
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
        assert f"holds another experiment (different {said}" in line


def test_two_processes_on_one_folder(fails, run, tmp_path, monkeypatch):
    stopped(run, tmp_path, monkeypatch, 1)
    with filelock.FileLock(tmp_path / "checkpoint" / "seed-1.lock"):
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "another process is at work there" in line
    assert run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume").code == 0


def test_full_disk_leaves_the_last_state(run, fails, whole, tmp_path, monkeypatch):
    fsync, count = os.fsync, []

    def full(number):
        count.append(1)
        if len(count) > 6:  # the folder's own is every second one
            raise OSError(28, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        line = fails_in_training(run, tmp_path)
    assert "No space left on device; the previous file is unchanged" in line
    assert run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume").code == 0
    same(whole, tmp_path)


def fails_in_training(run, folder):
    outcome = run("model_cnn.py", *SMALL, "--output", folder)
    assert outcome.code == 2, outcome
    (line,) = outcome.err.splitlines()
    return line


class Hostile:
    """A pickle that would leave a file if it were run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_damaged_and_hostile_checkpoints(run, fails, tmp_path, monkeypatch):
    stopped(run, tmp_path, monkeypatch, 2)
    path = tmp_path / "checkpoint" / "seed-0.pt"
    good = path.read_bytes()
    torch.save({"network": Hostile(tmp_path / "executed")}, path)
    hostile = path.read_bytes()
    content = torch.load(good_copy(tmp_path, good), weights_only=True)
    other = checkpoint.packed({**content, "network": {}}, content["mark"])
    elsewhere = checkpoint.packed(content, "another run's")
    for bad in (good[: len(good) // 2], b"", b"text", hostile, other, elsewhere):
        path.write_bytes(bad)
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
        assert "seed-0.pt: damaged, or of another experiment" in line
        assert path.read_bytes() == bad
    assert not (tmp_path / "executed").exists()


def test_no_memory_is_no_damage(run, fails, tmp_path, monkeypatch):
    stopped(run, tmp_path, monkeypatch, 2)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("bloodcells.training.optim.Muon.load_state_dict", full)
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "cpu is out of memory; lower --batch-size" in line


def good_copy(folder, content):
    path = folder / "good.pt"
    path.write_bytes(content)
    return path


def start(folder, *flags):
    """A long run in a process of its own, waited for until it trains."""
    command = [sys.executable, "-u", "model_cnn.py", *map(str, SMALL), "--epochs", "10000"]
    process = subprocess.Popen(
        [*command, "--output", str(folder), *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while " epoch 2/" not in process.stdout.readline():
        assert process.poll() is None
    return process


def test_signal_ends_after_the_batch(tmp_path):
    process = start(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    first, *_, last = err.strip().splitlines()
    assert first == "stopping after this batch; again to stop at once"
    assert last.startswith("stopped; resume with: python model_cnn.py --config cnn-fast-60")
    assert last.endswith("--resume")
    kept = torch.load(tmp_path / "checkpoint" / "seed-0.pt", weights_only=True)
    assert len(kept["history"]) >= 2


def test_second_signal_stops_at_once(tmp_path, monkeypatch):
    with interruption.ending_after_the_batch():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(interruption.Interrupted):
            interruption.stop_if_asked(torch.device("cpu"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    interruption.stop_if_asked(torch.device("cpu"))  # outside, nothing was asked for


def test_a_signal_after_the_last_batch_is_not_forgotten():
    with pytest.raises(interruption.Interrupted), interruption.ending_after_the_batch():
        signal.raise_signal(signal.SIGTERM)


def test_resuming_command_keeps_what_matters(monkeypatch):
    argv = ["a/model_cnn.py", "--only-seed", "3", "--overwrite", "--output", "a b"]
    monkeypatch.setattr(sys, "argv", argv)
    start = "python a/model_cnn.py"
    code = provenance.Code("model_cnn.py", "c0ffee", {}, {}, {})
    args = Namespace(code=code, output=Path("plots/cnn-paper-edited-123456"))
    resuming = partial(session.resuming_command, args)
    assert resuming() == f"{start} --only-seed 3 --output 'a b' --resume"
    assert resuming(alone=True) == f"{start} --output 'a b' --resume"
    monkeypatch.setattr(sys, "argv", ["model_cnn.py"])
    assert resuming() == "python model_cnn.py --resume"
    args.code = replace(code, files={"models.py": "x"})  # the folder's name changes with the code
    assert resuming() == f"python model_cnn.py --output {args.output} --resume"


def test_diverged_training_keeps_the_last_state(run, tmp_path, monkeypatch):
    stopped(run, tmp_path, monkeypatch, 2)
    kept = (tmp_path / "checkpoint" / "seed-0.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "loss_and_accuracy", lambda *_: (float("nan"), 0.1))
        outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "training diverged: after epoch 3, whose last batch had a learning rate" in outcome.err
    assert "the loss on held-out images is nan; lower --lr" in outcome.err
    assert (tmp_path / "checkpoint" / "seed-0.pt").read_bytes() == kept


def test_finished_run_is_no_other(fails, whole):
    line = fails("model_cnn.py", *SMALL, "--lr", 0.01, "--output", whole, "--resume")
    assert "different lr 0.005 there, 0.01 now" in line


def test_ablation_resumes(run, tmp_path, monkeypatch):
    flags = ("--synthetic", "--epochs", 2, "--replicates", 2, "--batch-size", 96)
    flags += ("--widths", 4, 4, 8, "--only", "no-shift", "--output", tmp_path)
    finish, count = checkpoint.CheckpointFolder.finish, []

    def finish_then_stop(self, *args):
        finish(self, *args)
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.CheckpointFolder, "finish", finish_then_stop)
        assert run("ablation.py", *flags).code == 130
    outcome = run("ablation.py", *flags, "--resume")
    assert outcome.code == 0, outcome
    assert outcome.out.count(" epoch ") == 2  # of the one model that was left


def test_out_of_memory_says_what_to_lower(fails, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("model_cnn.train_epoch", full)
    assert "lower --batch-size" in fails("model_cnn.py", *SMALL, "--output", tmp_path)


def test_numbers_of_numpy_and_torch_survive_a_checkpoint(run, tmp_path, monkeypatch):
    """A script may add columns to its history, of whatever type."""
    train_epoch = model_cnn.train_epoch

    def with_more(*args):
        return train_epoch(*args) | {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": 3}

    monkeypatch.setattr(model_cnn, "train_epoch", with_more)
    stopped(run, tmp_path, monkeypatch, 1)
    outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert outcome.code == 0, outcome
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert {(row["a"], row["b"], row["c"]) for row in rows} == {("0.5", "2.0", "3")}
