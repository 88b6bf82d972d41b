"""A disk that fails while models are trained: one line, nothing lost, the same bits afterwards."""

import contextlib
import itertools
import os
import resource
import shutil

import numpy as np
import pytest
from disk_faults import ERRORS, EVERY, SOME, chosen, kill_at_calls
from shared import QUICK, QUICK_OF

from bloodcells.tracking import run_folder
from bloodcells.training import session

FLAGS = (*QUICK, "--epochs", "2", "--quiet")
FLAGS_OF = {script: (*flags, "--epochs", "2", "--quiet") for script, flags in QUICK_OF.items()}


def same(folder, expected):
    """Whether a run folder is complete, and its predictions are those of an undisturbed run."""
    found = run_folder.read(folder)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    names = {path.name for path in folder.iterdir()}
    junk = {
        name
        for name in names
        if name.startswith((".writing-", ".earlier-")) or name.endswith(".part")
    }
    return not junk and "checkpoint" not in names


def one_of(folder, whole):
    """Whether a run folder holds one of these runs, with its own metrics."""
    kept = run_folder.read(folder)
    return any(
        np.array_equal(kept.probabilities, one.probabilities)
        and kept.metrics["test"] == one.metrics["test"]
        for one in whole
    )


def complaints(outcome):
    """The lines on standard error, but for one on a folder that is left, which is then deleted."""
    lines = []
    for line in outcome.err.splitlines():
        folder, told, _ = line.partition(" could not be removed; it can be deleted")
        if told:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            lines.append(line)
    return lines


def count(run, faults, script, folder, *flags):
    """How many calls a script makes on a folder."""
    faults.arm(folder)
    outcome = run(script, *FLAGS_OF[script], *flags, "--output", folder)
    faults.disarm()
    assert outcome.code == 0, outcome
    return faults.seen


@pytest.mark.parametrize("before", ["nothing", "a finished run"])
@pytest.mark.parametrize(
    ("script", "few", "name"),
    [
        *(("model_baseline.py", 8, name) for name in (ERRORS if EVERY else ["each in turn"])),
        *(("model_cnn.py", 1, name) for name in SOME),
    ],
)
def test_error_at_a_call(run, faults, tmp_path, name, before, script, few):
    flags, earlier = [], tmp_path / "earlier"
    if before == "a finished run":
        assert run(script, *FLAGS_OF[script], "--seed", "1", "--output", earlier).code == 0
        flags = ["--overwrite"]
        shutil.copytree(earlier, tmp_path / "whole")
    total = count(run, faults, script, tmp_path / "whole", *flags)
    expected = run_folder.read(tmp_path / "whole")
    whole = [expected, run_folder.read(earlier)] if flags else [expected]
    assert total > 60
    turn = itertools.cycle(ERRORS)
    for at in chosen(total, few):
        error = next(turn) if name == "each in turn" else name
        folder = tmp_path / f"at-{at}"
        if flags:
            shutil.copytree(earlier, folder)
        faults.arm(folder, at, ERRORS[error])
        outcome = run(script, *FLAGS_OF[script], *flags, "--output", folder)
        faults.disarm()
        assert faults.seen >= at
        where = (at, error, outcome)
        assert outcome.code in (0, 2), where
        assert len(complaints(outcome)) == (outcome.code == 2), where
        assert "Traceback" not in outcome.err, where
        finished = (folder / "metrics.json").exists()
        assert finished or outcome.code == 2, where
        assert not finished or one_of(folder, whole), where
        unfinished = (folder / "checkpoint" / "identity.json").exists()
        again = ["--resume"] if unfinished or (not flags and finished) else flags
        assert run(script, *FLAGS_OF[script], *again, "--output", folder).code == 0, where
        assert same(folder, expected), where
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
@pytest.mark.parametrize(
    ("script", "before"),
    [
        ("model_baseline.py", "a finished run"),
        *([("model_baseline.py", "nothing")] if EVERY else []),
        *([("model_cnn.py", before) for before in ("nothing", "a finished run")] if EVERY else []),
    ],
)
def test_killed_at_a_call(run, no_figures, tmp_path, before, script):
    runs, earlier, whole = tmp_path / "runs", "-", []
    runs.mkdir()
    if before == "a finished run":
        earlier = tmp_path / "earlier"
        assert run(script, *FLAGS_OF[script], "--seed", "1", "--output", earlier).code == 0
        whole.append(run_folder.read(earlier))
    kills = kill_at_calls(runs, 3, earlier, script, *FLAGS_OF[script])
    expected = run_folder.read(runs / "whole")
    killed = list(runs.glob("[0-9]*"))
    assert len(killed) == kills >= 3
    assert all(same(folder, expected) for folder in killed)
    left = list((runs / "left").glob("*"))
    assert left or not whole  # the first kill comes before anything is replaced
    assert all(one_of(folder, [*whole, expected]) for folder in left)


@pytest.mark.parametrize("name", SOME)
def test_error_at_a_call_of_a_resumed_run(run, faults, tmp_path, stop_after, name):
    with stop_after(session.Session, "finish"):
        assert run("model_baseline.py", *FLAGS, "--output", tmp_path / "stopped").code == 130
    shutil.copytree(tmp_path / "stopped", tmp_path / "whole")
    total = count(run, faults, "model_baseline.py", tmp_path / "whole", "--resume")
    expected = run_folder.read(tmp_path / "whole")
    for at in chosen(total, 2):
        folder = tmp_path / f"at-{at}"
        shutil.copytree(tmp_path / "stopped", folder)
        faults.arm(folder, at, ERRORS[name])
        outcome = run("model_baseline.py", *FLAGS, "--resume", "--output", folder)
        faults.disarm()
        assert outcome.code in (0, 2), (at, outcome)
        assert len(complaints(outcome)) == (outcome.code == 2), (at, outcome)
        assert run("model_baseline.py", *FLAGS, "--resume", "--output", folder).code == 0
        assert same(folder, expected), at
        shutil.rmtree(folder)


@contextlib.contextmanager
def files_of_at_most(size):
    """Within the block, a write beyond so many bytes fails, as on a disk that fills meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 5_000, 100_000])
def test_a_file_that_cannot_be_written_whole(run, quick_run, tmp_path, size):
    folder = shutil.copytree(quick_run, tmp_path / "run")
    with files_of_at_most(size):
        outcome = run("model_baseline.py", *QUICK, "--seed", "1", "--overwrite", "--output", folder)
    assert outcome.code == 2, outcome
    assert outcome.err.count("File too large") == (size > 0)  # the test's own file is cut, too
    for path in quick_run.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert run("model_baseline.py", *QUICK, "--overwrite", "--output", folder).code == 0
    assert same(folder, run_folder.read(quick_run))
