"""One model trained by two processes: as by one, but for rounding and batch normalisation."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from written import metrics_of, probabilities_of

from bloodcells.errors import UserError
from bloodcells.training import distributed

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SMALL = ("--synthetic", "--device", "cpu", "--batch-size", "50")  # 480 images: 30 in the last one

STOPPING = """import sys, model_baseline
from bloodcells.cli.arguments import run_script
from bloodcells.training import checkpoint, distributed
finish = checkpoint.CheckpointFolder.finish
def finish_then_stop(self, *args):
    finish(self, *args)
    if distributed.rank() == 0:
        sys.exit(3)
checkpoint.CheckpointFolder.finish = finish_then_stop
run_script(model_baseline.main)
"""


def torchrun(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*TORCHRUN, *map(str, command)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def results(folder):
    found = metrics_of(folder)
    return found, probabilities_of(folder)


def test_two_processes_stopped_and_resumed_train_as_one(run, fails, tmp_path):
    flags = (*SMALL, "--folds", 2, "--epochs", 2)
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("model_baseline.py", *flags, "--output", one).code == 0

    script = tmp_path / "stopping.py"
    script.write_text(STOPPING)
    first = torchrun(script, *flags, "--output", two)
    assert first.returncode != 0
    assert "cpu, 2 processes" in first.stdout
    assert first.stdout.count(" epoch ") == 2  # one process alone talks
    line = fails("model_baseline.py", *flags, "--output", two, "--resume")
    assert "processes 2 there, 1 now" in line
    done = torchrun("model_baseline.py", *flags, "--output", two, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" epoch ") == 2  # of the second fold

    (_, expected), (together, found) = results(one), results(two)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert together["environment"]["processes"] == 2
    histories = [(folder / "history.csv").read_text().splitlines() for folder in (one, two)]
    for mine, theirs in zip(*histories, strict=True):
        if "loss" not in mine:  # the same counts and, to rounding, losses; not the same times
            values = [list(map(float, line.split(",")[:-2])) for line in (mine, theirs)]
            np.testing.assert_allclose(*values, rtol=1e-4)


def test_network_with_batch_normalisation_and_focus(run, tmp_path):
    flags = (
        *("--config", "cnn-fast-15", *SMALL, "--widths", 4, 8, 8, "--runs", 1, "--epochs", 6),
        *("--focus", 0.4),
    )
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("model_cnn.py", *flags, "--output", one).code == 0
    done = torchrun("model_cnn.py", *flags, "--output", two)
    assert done.returncode == 0, done.stderr
    (alone, _), (together, _) = results(one), results(two)
    accuracy = [found["test"]["accuracy"]["mean"] for found in (alone, together)]
    assert min(accuracy) > 0.5  # 1/8 is chance
    assert abs(accuracy[0] - accuracy[1]) < 0.15


def test_failure_of_one_ends_all_with_its_reason(tmp_path):
    done = torchrun("tests/failing_rank.py", *SMALL, "--output", tmp_path / "run")
    assert done.returncode != 0
    assert "the second process has had enough" in done.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_parts_make_up_the_batch(monkeypatch, count):
    batch = torch.arange(count)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.part(batch))
    if count == 1:  # too few for two
        assert [p.tolist() for p in parts] == [[0], [0]]
    else:
        assert sorted(torch.cat(parts).tolist()) == batch.tolist()


def test_losses_of_a_batch_too_small_to_share_are_the_first_process_s(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr("torch.distributed.broadcast", lambda tensor, source: tensor.fill_(source))
    mine = torch.tensor([3.0])
    assert distributed.joined(mine, 1).tolist() == [0]
    assert mine.tolist() == [3]


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    reason = "--nproc-per-node: at most 1 here"
    with pytest.raises(UserError, match=reason), distributed.group(torch.device("cuda")):
        pass


def test_alone_nothing_changes():
    values = torch.arange(3.0)
    assert (distributed.size(), distributed.rank()) == (1, 0)
    assert torch.equal(distributed.part(values), values)
    assert distributed.joined(values, 3) is values
    assert distributed.from_first(lambda: 5) == 5
    with distributed.group(torch.device("cpu")):
        assert distributed.size() == 1
