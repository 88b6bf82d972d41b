"""A small training, whole and stopped, and whether a run ended as the whole one did."""

import csv

import numpy as np
import pytest
from written import metrics_of

from bloodcells.training import checkpoint

SMALL = (
    *("--config", "cnn-fast-60", "--synthetic", "--device", "cpu", "--batch-size", 96),
    *("--widths", 4, 4, 8, "--runs", 2, "--epochs", 3, "--focus", 0.4, "--warmup", 0.3),
    *("--views", 1),
)


TIMES = {"train_seconds", "machine_gflops", "command_seconds"}


@pytest.fixture(scope="session")
def whole(tmp_path_factory, run_once):
    """The folder of the run that was never stopped, without figures."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bloodcells.reporting.results.draw", lambda *_: None)
        run_once("model_cnn.py", *SMALL, "--output", folder)
    return folder


def timeless(value):
    """A value without the times that are anywhere in it."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def settled(folder):
    """Everything in metrics.json but the times and where it ran."""
    found = timeless(metrics_of(folder))
    del found["environment"], found["code"]  # which others may edit in the meantime
    found["config"] = {k: v for k, v in found["config"].items() if k in ("lr", "epochs", "seed")}
    return found


def same(one, other):
    """The same figures, and the same probabilities bit for bit; nothing is left over."""
    assert settled(one) == settled(other)
    histories = [list(csv.DictReader((f / "history.csv").open())) for f in (one, other)]
    assert [timeless(row) for row in histories[0]] == [timeless(row) for row in histories[1]]
    arrays, others = (np.load(folder / "predictions.npz") for folder in (one, other))
    assert set(arrays) == set(others)
    for name in arrays:
        assert arrays[name].tobytes() == others[name].tobytes(), name
    assert not (other / "checkpoint").exists()
    assert not list(other.rglob("*.part"))


@pytest.fixture
def stopped(run, stop_after):
    """Begins a run that is interrupted once after so many epochs, in all models."""

    def begin(folder, epoch, flags=SMALL):
        with stop_after(checkpoint.Checkpoint, "save", epoch):
            outcome = run("model_cnn.py", *flags, "--output", folder)
        assert outcome.code == 130, outcome
        return outcome

    return begin
