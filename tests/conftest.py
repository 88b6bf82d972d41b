"""What the tests share: a way to run a script in this process, real data, and finished runs."""

import builtins
import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import pytest
import sqlalchemy
import torch
from disk_faults import Faults
from selenium import webdriver

import model_cnn
import models
from bloodcells.cli import arguments
from bloodcells.data import bloodmnist, download, synthetic_cells
from bloodcells.errors import UserError
from bloodcells.evaluation import prediction
from bloodcells.inference.classifier import Classifier, save_classifier
from bloodcells.tracking import provenance
from bloodcells.training import session

ROOT = Path(__file__).parents[1]
# committed results of older code than today's, which the tables mark; make them anew, and take them
# out here: the test of them lists what is there
OLDER = {
    *("cnn-best-train-and-validation/metrics.json", "cnn-robust/metrics.json"),
    *("tuning/metrics.json", "ablation/ablation.json", "ablation-robust/ablation.json"),
    *("bench/bench.json", "explain/metrics.json"),
    *("robustness/metrics.json", "release/metrics.json"),
}
FREQUENCIES = [0.3, *[0.1] * 7]  # of the classes, in the card of `weights`
os.environ["BLOODCELLS_DEBUG"] = "1"  # a defect ends a test with its traceback
QUICK = ("--synthetic", "--folds", "2", "--epochs", "1", "--device", "cpu")


SCHEMA = json.loads((ROOT / "docs" / "metrics.schema.json").read_text(encoding="utf-8"))


def complaints(path):
    """What of a metrics.json is not as docs/metrics.schema.json says."""
    content = json.loads(path.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    error = jsonschema.exceptions.best_match(validator.iter_errors(content))
    return [f"{error.json_path}: {error.message[:200]}"] if error else []


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def quick():
    """Draw the generated images once, and measure the machine's speed on small matrices.

    Most tests take both, and the machine's speed is measured after every epoch. And take the code
    for committed: what becomes of edited code is tested on copies, in tracking/test_provenance.py.
    """

    def committed(script: Path, presets: tuple[Path, ...] = ()) -> provenance.Code:
        found = provenance.code_of(script, presets)
        return replace(found, committed=found.files, others={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_cells, "make", functools.cache(synthetic_cells.make))
        patch.setattr("bloodcells.training.device.CPU_SIDE", 64)
        for module in ("arguments", "scripts"):
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


@pytest.fixture
def predicted(monkeypatch):
    """All that networks in training are asked to predict from here on, as a list of images."""
    seen, predict = [], prediction.predict

    def spy(model, images, *rest, **settings):
        seen.append(images)
        return predict(model, images, *rest, **settings)

    for module in (model_cnn, prediction):
        monkeypatch.setattr(module, "predict", spy)
    return seen


@pytest.fixture
def uninstalled(monkeypatch):
    """Make the import of a module fail, as if its package were not installed."""
    real = builtins.__import__

    def leave_out(module: str) -> None:
        def without(name, *args, **kwargs):
            if name == module:
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)

    return leave_out


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
    try:
        return download.find_or_download(None, 28)[0]
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no BloodMNIST file: {error}")


@pytest.fixture
def postgresql():
    """The URL of a new database on a real PostgreSQL server. In CI there must be one."""
    server = os.environ.get("POSTGRESQL_URL")
    if not server and os.environ.get("CI"):
        pytest.fail("CI must set POSTGRESQL_URL")
    if not server:
        pytest.skip("no POSTGRESQL_URL of a server where databases may be made")
    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(
        server, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield sqlalchemy.make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))


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
    run_once("model_baseline.py", *QUICK, "--output", folder)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A random network, released: it answers anything, always the same."""
    torch.manual_seed(0)
    network = models.build("CellNet", 28, (4, 8, 8)).eval()
    classifier = Classifier(network, torch.eye(8))
    sets = {"0.95": 0.05, "0.99": 0.01}
    card = {
        "model": "CellNet",
        "widths": [4, 8, 8],
        "size": 28,
        "classes": list(bloodmnist.CLASS_NAMES),
        "calibration": {
            "1": {"temperature": 0.5, "sets": sets},
            "8": {"temperature": 0.25, "sets": sets},
        },
        "farthest": 1e9,
        "frequencies": FREQUENCIES,
    }
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_classifier(path, classifier, card)
    return path


def changed(weights, target, **entries):
    """A copy of the weights whose card has other entries."""
    target.write_bytes(weights.read_bytes())
    card = json.loads(weights.with_suffix(".json").read_text())
    target.with_suffix(".json").write_text(json.dumps({**card, **entries}))
    return target


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium. In CI there must be one."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium and chromedriver")
        pytest.skip("no chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def hooked():
    found = Faults()
    sys.addaudithook(found.hook)  # stays for ever, so it does nothing unless armed
    return found


@pytest.fixture
def faults(hooked, monkeypatch, tmp_path_factory):
    """Faults of the disk, armed by the test; whatever takes long and writes nothing is left out."""
    sync = os.fsync

    def fsync(file):
        if hooked.folder:
            hooked.check()
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(session, "matrix_product_gflops", lambda *args, **more: 1.0)
    monkeypatch.setattr("bloodcells.reporting.results.draw", lambda *args: None)
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    private = tmp_path_factory.mktemp("temporary")  # without the lock files of other trainings
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    yield hooked
    hooked.disarm()
