"""What the tests share: a way to run a script in this process, real data, and finished runs."""

import functools
import importlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import pytest
import warm
from disk_faults import Faults
from matplotlib.figure import Figure

from bloodcells.cli import arguments
from bloodcells.data import bloodmnist, download, synthetic_cells
from bloodcells.evaluation import prediction
from bloodcells.tracking import provenance
from bloodcells.training import session

ROOT = Path(__file__).parents[1]
# committed results of older code, which the tables mark; a test compares this list with them.
# Whoever makes one anew takes it out here.
OLDER = {"release/metrics.json"}
os.environ["BLOODCELLS_DEBUG"] = "1"  # a defect ends a test with its traceback
synthetic_cells.make = functools.cache(synthetic_cells.make)  # before test modules call it
QUICK = ("--synthetic", "--folds", "2", "--epochs", "1", "--device", "cpu")
QUICK_CNN = (*QUICK, "--model", "CellNet", "--widths", "4", "4", "8")
QUICK_OF = {"model_baseline.py": QUICK, "model_cnn.py": QUICK_CNN}
SAVE_FIGURE = Figure.savefig


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def quick():
    """Leave out what takes longer than these trainings, or is tested by itself.

    The machine's speed is measured on small matrices, the files of figures are empty but for tests
    with `drawn_figures`, and code counts as committed: what becomes of edited code is tested on
    copies, in tracking/test_provenance.py. A GPU is left alone.
    """

    def committed(script: Path, presets: tuple[Path, ...] = ()) -> provenance.Code:
        found = provenance.code_of(script, presets)
        return replace(found, committed=found.files, others={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bloodcells.training.device.CPU_SIDE", 64)
        for device in ("torch.cuda", "torch.backends.mps"):
            patch.setattr(f"{device}.is_available", warm.unavailable)
        patch.setattr(Figure, "savefig", lambda figure, path, **more: Path(path).touch())
        patch.setattr(metadata, "version", functools.cache(metadata.version))
        for module in ("arguments", "own_images", "tools"):
            patch.setattr(f"bloodcells.cli.{module}.code_of", committed)
        yield


@pytest.fixture
def run(monkeypatch, capfd):
    """Run a script's command line in this process, which has torch loaded already."""

    def call(script: str, *flags: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        capfd.readouterr()
        try:
            arguments.run_script(importlib.import_module(Path(script).stem).main)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capfd.readouterr())

    return call


def git(folder: Path, *arguments: str) -> str:
    """Run a git command there, as nobody in particular."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def committed_copy(tmp_path_factory) -> Path:
    """A copy of the project's code as it is now, committed in a repository of its own."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    kept = shutil.ignore_patterns(".*", "__pycache__", "plots", "weights", "tests")
    shutil.copytree(ROOT, folder, ignore=kept)
    shutil.copytree(ROOT / ".config", folder / ".config")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as it is now")
    return folder


@pytest.fixture
def copy(committed_copy, tmp_path) -> Path:
    """Such a copy, for one test to edit."""
    return Path(shutil.copytree(committed_copy, tmp_path / "project"))


def seen_by_networks(patch):
    """All that networks in training are asked to predict from here on, as a list of images."""
    seen, predict = [], prediction.predict

    def spy(model, images, *rest, **settings):
        seen.append(images)
        return predict(model, images, *rest, **settings)

    patch.setattr(prediction, "predict", spy)
    return seen


@pytest.fixture
def predicted(monkeypatch):
    """As `seen_by_networks`, for one test."""
    return seen_by_networks(monkeypatch)


@pytest.fixture
def stop_after(monkeypatch):
    """Within the block, Ctrl-C comes after the nth call of a function, by its owner and name."""

    @contextmanager
    def stopping(owner, name, count=1):
        real, calls = getattr(owner, name), itertools.count(1)

        def call(*args, **settings):
            result = real(*args, **settings)
            if next(calls) == count:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, call)
            yield

    return stopping


@pytest.fixture
def uninstalled(monkeypatch):
    """Make the import of a module fail, as if its package were not installed."""
    return lambda module: monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def fails(run):
    """Run a command line that is the user's mistake; returns its one line on stderr."""

    def call(script: str, *flags: object) -> str:
        outcome = run(script, *flags)
        assert outcome.code == 2, outcome
        lines = [line for line in outcome.err.splitlines() if "downloading from" not in line]
        assert len(lines) == 1, outcome.err
        assert lines[0].startswith(f"{script}: error: ")
        return lines[0]

    return call


@pytest.fixture(scope="session")
def real_file() -> Path:
    """The real 28 px file. In CI a test that needs it fails without it; elsewhere it is skipped."""
    paths = [folder / download.file_name(28) for _, folder in download.search_folders(None)]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:  # nothing is downloaded: it would go into the user's home
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no BloodMNIST file is here")
    download.verify(found, 28)
    return found


@pytest.fixture(scope="session")
def real_dataset(real_file):

    return bloodmnist.load(real_file.parent)


@pytest.fixture(scope="session")
def run_once():
    """Run a script for a fixture that many tests share."""

    def call(script: str, *flags: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, *map(str, flags)])
            importlib.import_module(Path(script).stem).main()

    return call


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory, run_once) -> Path:
    """The folder of a finished run of model_baseline.py on generated images."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    with drawing():
        run_once("model_baseline.py", *QUICK, "--output", folder)
    return folder


@contextmanager
def drawing():
    """Within the block, figures are drawn as users get them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", SAVE_FIGURE)
        yield


@pytest.fixture
def drawn_figures():
    """The same for one test."""
    with drawing():
        yield


@pytest.fixture(scope="module")
def no_figures(quick_run):
    """No figures of trainings, not even empty ones; `quick_run` has its own, made before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bloodcells.reporting.results.draw", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def hooked():
    found = Faults()
    sys.addaudithook(found.hook)  # stays for ever, so it does nothing unless armed
    return found


@pytest.fixture
def faults(hooked, monkeypatch, tmp_path_factory):
    """Faults of the disk, armed by the test; whatever takes long and writes nothing is left out."""
    monkeypatch.setattr(os, "fsync", hooked.fsync)
    monkeypatch.setattr(session, "matrix_product_gflops", lambda *args, **more: 1.0)
    monkeypatch.setattr("bloodcells.reporting.results.draw", lambda *args: None)
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    private = tmp_path_factory.mktemp("temporary")  # without the lock files of other trainings
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    yield hooked
    hooked.disarm()
