"""One model trained by two processes: as by one, but for rounding and batch normalisation."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import warm
from disk_faults import EVERY
from shared import ROOT
from torch import nn
from written import metrics_of, probabilities_of

from bloodcells.errors import UserError
from bloodcells.training import distributed
from bloodcells.training.process_group import process_group

SMALL = ("--synthetic", "--device", "cpu", "--batch-size", "51")  # odd: the two parts differ


def together(*command, second=()):
    """Two processes as torchrun starts them, without its own start; returns what each did.

    `second` are more flags of the second process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1"}
    ranks = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    flags = (), second
    return warm.run_at_once(
        *((rank, *command, *more) for rank, more in zip(ranks, flags, strict=True)), cwd=ROOT
    )


def test_two_processes_fail_go_on_and_train_as_one(run, fails, tmp_path):
    flags = (*SMALL, "--folds", 2, "--epochs", 2)
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("model_baseline.py", *flags, "--output", one).code == 0

    first, second = together("tests/failing_rank.py", *flags, "--output", two)
    assert "cpu, 2 processes" in first.stdout
    epochs = first.stdout.count(" epoch ")
    assert epochs in (2, 3)  # of the first fold, and perhaps one more before it is noticed
    assert "epoch" not in second.stdout  # one process alone talks (torch 2.10's Gloo does, too)
    assert second.returncode == 2
    assert second.stderr.endswith("the second process has had enough\n")
    assert first.returncode == 2
    assert "error: process 0 of 2: " in first.stderr  # and why
    assert not (two / "metrics.json").exists()
    line = fails("model_baseline.py", *flags, "--output", two, "--resume")
    assert "processes 2 there, 1 now" in line
    done, _ = together("model_baseline.py", *flags, "--output", two, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" epoch ") == 4 - epochs  # none twice

    expected, found = map(probabilities_of, (one, two))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert metrics_of(two)["environment"]["processes"] == 2
    histories = [(folder / "history.csv").read_text().splitlines() for folder in (one, two)]
    for mine, theirs in zip(*histories, strict=True):
        if "loss" not in mine:  # the same counts and, to rounding, losses; not the same times
            values = [list(map(float, line.split(",")[:-2])) for line in (mine, theirs)]
            np.testing.assert_allclose(*values, rtol=1e-4)


def test_a_mistake_is_told_once(tmp_path):
    flags = ("model_baseline.py", *SMALL, "--folds", 2, "--epochs", 1, "--output", tmp_path)
    first, second = together(*flags, second=("--lr", 0.1))
    assert [first.returncode, second.returncode] == [2, 2]
    assert first.stderr == ""
    assert "process 1 of torchrun has another experiment than process 0 (different lr" in (
        second.stderr
    )
    assert list(tmp_path.glob("checkpoint/*")) == []
    (tmp_path / "checkpoint").mkdir(exist_ok=True)
    (tmp_path / "checkpoint" / "mine.txt").touch()
    first, second = together(*flags)
    assert [first.returncode, second.returncode] == [2, 2]
    assert first.stderr.count("\n") == 1
    assert "holds mine.txt, which is not of this project" in first.stderr
    assert second.stderr == ""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.png").touch()
    first, second = together(*flags[:-1], tmp_path / "foreign")
    assert [first.returncode, second.returncode] == [2, 2]
    assert "a.png" in first.stderr
    assert (first.stderr.count("\n"), second.stderr) == (1, "")


def test_a_damaged_checkpoint_is_told_once(tmp_path):
    flags = ("model_baseline.py", *SMALL, "--folds", 2, "--epochs", 1, "--output", tmp_path)
    assert [one.returncode for one in together(*flags, "--only-fold", 0)] == [0, 0]
    (record,) = tmp_path.glob("checkpoint/finished-*.pt")
    record.write_bytes(record.read_bytes()[:100])
    first, second = together(*flags, "--only-fold", 0)
    assert [first.returncode, second.returncode] == [2, 2]
    assert f"{record}: damaged" in first.stderr
    assert (first.stderr.count("\n"), second.stderr) == (1, "")


def test_network_with_batch_normalisation_and_focus(run, tmp_path):
    flags = (
        *("--config", "cnn-fast-15", *SMALL, "--widths", 4, 8, 8, "--runs", 1, "--epochs", 6),
        *("--focus", 0.4, "--views", 1),
    )
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("model_cnn.py", *flags, "--output", one).code == 0
    if EVERY:  # `make test-faults`: the command itself, whose start takes half a minute
        command = (sys.executable, "-m", "torch.distributed.run", "--standalone")
        done = subprocess.run(
            [*command, "--nproc-per-node=2", "model_cnn.py", *map(str, flags), "--output", two],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
    else:
        done, _ = together("model_cnn.py", *flags, "--output", two)
    assert done.returncode == 0, done.stderr
    accuracy = [metrics_of(run)["test"]["accuracy"]["mean"] for run in (one, two)]
    assert min(accuracy) > 0.5  # 1/8 is chance
    assert abs(accuracy[0] - accuracy[1]) < 0.15


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


@pytest.mark.parametrize("count", [2, 5, 6])
def test_losses_of_the_parts_are_joined_in_the_batch_s_order(monkeypatch, count):
    losses, parts = torch.arange(count).float(), []
    monkeypatch.setattr(distributed, "size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.part(losses))

    def all_gather(every, mine):
        for into, one in zip(every, parts, strict=True):
            into.copy_(torch.nn.functional.pad(one, (0, len(into) - len(one))))

    monkeypatch.setattr("torch.distributed.all_gather", all_gather)
    assert torch.equal(distributed.joined(parts[0], count), losses)


def test_losses_of_a_batch_too_small_to_share_are_the_first_process_s(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr("torch.distributed.broadcast", lambda tensor, source: tensor.fill_(source))
    mine = torch.tensor([3.0])
    assert distributed.joined(mine, 1).tolist() == [0]
    assert mine.tolist() == [3]


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(distributed, "launched", lambda: True)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    reason = "--nproc-per-node: at most 1 here"
    with pytest.raises(UserError, match=reason), process_group(torch.device("cuda")):
        pass


def test_gpus_without_nccl(monkeypatch):
    monkeypatch.setattr(distributed, "launched", lambda: True)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with pytest.raises(UserError, match="no nccl"), process_group(torch.device("cuda")):
        pass


def test_build_of_torch_without_processes(monkeypatch):
    for name in ("is_initialized", "is_torchelastic_launched", "get_rank", "get_world_size"):
        monkeypatch.delattr(f"torch.distributed.{name}")
    monkeypatch.setattr("torch.distributed.is_available", lambda: False)
    with process_group(torch.device("cpu")):
        assert (distributed.size(), distributed.rank()) == (1, 0)


@pytest.fixture
def pretended(monkeypatch):
    """A group that torchrun started, of which nothing is real; returns what was ended."""
    ended = []
    monkeypatch.setattr(distributed, "launched", lambda: True)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: ended.append(True))
    return ended


def test_own_defect_stays_one_and_awaits_nobody(pretended):
    wrong = RuntimeError("size mismatch")
    with pytest.raises(RuntimeError, match="size mismatch"), process_group(torch.device("cpu")):
        raise wrong
    assert pretended == []
    with process_group(torch.device("cpu")):
        pass
    assert pretended == [True]


def test_meeting_that_fails_is_explained(pretended, monkeypatch):
    def nobody_there(backend):
        raise torch.distributed.DistNetworkError("the server's socket has failed to listen")

    monkeypatch.setattr("torch.distributed.init_process_group", nobody_there)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    reason = "process 1 of 2: the server's socket"
    with pytest.raises(UserError, match=reason), process_group(torch.device("cpu")):
        pass


def test_alone_nothing_changes():
    values = torch.arange(3.0)
    assert (distributed.size(), distributed.rank()) == (1, 0)
    assert torch.equal(distributed.part(values), values)
    assert distributed.joined(values, 3) is values
    assert distributed.from_first(lambda: 5) == 5
    assert distributed.summed([2.0], values.device) == [2.0]
    model, state = torch.nn.Linear(2, 1), torch.get_rng_state()
    model(torch.ones(1, 2)).sum().backward()
    before = [weight.grad.clone() for weight in model.parameters()]
    distributed.average_gradients(model, 1, 1)
    distributed.own_random_numbers(0, 1)
    assert all(map(torch.equal, before, (weight.grad for weight in model.parameters())))
    assert torch.equal(torch.get_rng_state(), state)
    with process_group(torch.device("cpu")):
        assert distributed.size() == 1


@pytest.mark.parametrize(("count", "mine"), [(6, 3), (5, 2), (1, 1)])
def test_gradients_are_averaged_over_images(monkeypatch, count, mine):
    """By parts of a batch; of one too small to share, over the processes, which all have it."""
    monkeypatch.setattr(distributed, "size", lambda: 2)
    theirs = count if count < 2 else count - mine
    weight = max(count, 2)

    def all_reduce(flat):  # the other process's gradients are 10
        flat += 10 * theirs / weight

    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    model = nn.Linear(2, 1)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 4.0)
    distributed.average_gradients(model, mine, count)
    for parameter in model.parameters():
        expected = torch.full_like(parameter, (4 * mine + 10 * theirs) / weight)
        torch.testing.assert_close(parameter.grad, expected)


def test_each_process_draws_its_own_numbers_anew_in_each_epoch(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    draws = set()
    for seed, epoch, rank in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1), (1, 1, 0)):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        distributed.own_random_numbers(seed, epoch)
        draws.add(torch.rand(()).item())
    assert len(draws) == 5
