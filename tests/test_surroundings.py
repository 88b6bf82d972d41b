"""What surrounds a run is no part of it: clock, locale, home folder, hash seed, threads."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from shared import QUICK, ROOT
from written import metrics_of, probabilities_of

ODD = {
    "HOME": "/dev/null/home",  # can be neither read nor made
    "XDG_CACHE_HOME": "/dev/null/cache",
    "LC_ALL": "C",
    "LANG": "tr_TR.UTF-8",  # where i and I are no pair
    "TZ": "Pacific/Kiritimati",
    "PYTHONHASHSEED": "1",
    "OMP_NUM_THREADS": "1",
    "TERM": "dumb",
}


def test_odd_surroundings(run, tmp_path, monkeypatch):
    """From another folder, on a terminal, with everything else as it seldom is."""
    pty, termios = map(pytest.importorskip, ("pty", "termios"))  # not on Windows
    clock = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))  # runs backwards
    assert run("model_baseline.py", *QUICK, "--output", tmp_path / "here").code == 0
    left_out = ("MPLCONFIGDIR", "MEDMNIST_ROOT")
    surroundings = {k: v for k, v in os.environ.items() if k not in left_out} | ODD
    script = str(ROOT / "model_baseline.py")
    command = [sys.executable, script, *QUICK, "--output", str(tmp_path / "there")]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    done = subprocess.run(
        command, cwd=tmp_path, env=surroundings, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=120,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a closed terminal's output with an error
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert done.returncode == 0, shown
    assert b"2/2" in shown  # a bar
    assert "run 1/2 epoch 1/1: training loss" in done.stdout  # the file has lines
    assert b"medmnist" not in shown  # warns of such a home folder
    here, there = (probabilities_of(tmp_path / name) for name in ("here", "there"))
    np.testing.assert_allclose(here, there, atol=1e-5)  # other threads round otherwise
    metrics = metrics_of(tmp_path / "here")
    assert all(0 < row["train_seconds"] < 60 for row in metrics["runs"])


def test_pip_install_says_what_this_is(tmp_path):
    for name in ("pyproject.toml", ".config"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", "there", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "This is a collection of scripts, not a package" in done.stdout + done.stderr
    assert not (tmp_path / "there").exists()
