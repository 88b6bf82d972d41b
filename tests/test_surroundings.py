"""What surrounds a run is no part of it: clock, locale, home folder, hash seed, threads."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
from conftest import QUICK, ROOT
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
    clock = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))  # runs backwards
    assert run("model_baseline.py", *QUICK, "--output", tmp_path / "here").code == 0
    left_out = ("MPLCONFIGDIR", "MEDMNIST_ROOT")
    surroundings = {k: v for k, v in os.environ.items() if k not in left_out} | ODD
    command = [sys.executable, "model_baseline.py", *QUICK, "--output", str(tmp_path / "there")]
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "medmnist" not in done.stderr  # warns of such a home folder
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
