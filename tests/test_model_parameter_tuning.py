"""The hyper-parameter search: what it finds, keeps, continues, and refuses."""

import csv
import io
import json
import os
import shutil
import statistics
import time
import tomllib
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
import warm
from optuna.trial import TrialState
from shared import ROOT, drawing, seen_by_networks
from written import complaints, metrics_of

import model_parameter_tuning
from bloodcells.cli.arguments import parse
from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.cli.scripts import search_parser
from bloodcells.data import bloodmnist
from bloodcells.search import study as shared_study
from bloodcells.search.space import Choice, Range, number_of_trials, read_space

GRID = """
base = "cnn-paper"
model = "Baseline"
synthetic = true
folds = 2
prune = false
[space]
batch-size = [64, 128]
lr = [0.001, 0.1]
epochs = [1, 3]
"""
SCRIPT = "model_parameter_tuning.py"


@pytest.fixture
def preset(tmp_path):
    """Writes a preset and returns its path."""

    def write(text=GRID):
        path = tmp_path / "preset.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def search(run, preset, tmp_path):
    """Runs a search, of the small grid if no other preset is given."""

    def call(*flags, text=GRID, output="out"):
        return run(SCRIPT, "--config", preset(text), "--output", tmp_path / output, *flags)

    return call


@pytest.fixture(scope="module")
def grid(tmp_path_factory, run_once):
    """The small grid's search: its folder, what it printed, and the images it predicted on."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "preset.toml").write_text(GRID)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, drawing(), redirect_stdout(printed):
        seen = seen_by_networks(patch)
        run_once(SCRIPT, "--config", folder / "preset.toml", "--output", folder / "out")
    return SimpleNamespace(folder=folder / "out", printed=printed.getvalue(), predicted=seen)


def test_grid_reads_short_trainings_off_long_ones(grid, run, tmp_path):
    found = metrics_of(grid.folder)
    assert complaints(grid.folder / "metrics.json") == []
    settings = [tuple(cell["settings"].values()) for cell in found["cells"]]
    assert len(set(settings)) == len(settings) == 8
    assert len({cell["trial"] for cell in found["cells"]}) == 4
    cell = next(
        c for c in found["cells"] if c["settings"] == {"batch_size": 64, "lr": 0.1, "epochs": 1}
    )
    flags = ("--config", tmp_path / "preset.toml", "--batch-size", 64, "--lr", 0.1, "--epochs", 1)
    (tmp_path / "preset.toml").write_text(GRID.partition("prune")[0])
    run("model_cnn.py", *flags, "--output", tmp_path / "alone")
    alone = [row["val"]["accuracy"] for row in metrics_of(tmp_path / "alone")["runs"]]
    assert cell["accuracy"] == pytest.approx(alone, abs=1e-6)
    assert found["plain_seconds"] > 0
    with (grid.folder / "trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8
    for name in ("history", "learning_curves", "heat_maps"):
        assert (grid.folder / f"{name}.png").stat().st_size > 10_000
    lines = [line for line in grid.printed.splitlines() if "min left" in line]
    assert [line.partition(":")[0] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]


def test_best_is_a_preset_of_model_cnn(grid, run, tmp_path):
    best = metrics_of(grid.folder)["best"]
    settings = tomllib.loads((grid.folder / "best.toml").read_text())
    assert settings["epochs"] == int(statistics.median(best["epochs"]))
    assert settings["lr"] == best["settings"]["lr"]
    assert settings["batch-size"] == best["settings"]["batch_size"]
    outcome = run("model_cnn.py", "--config", grid.folder / "best.toml", "--output", tmp_path / "b")
    assert outcome.code == 0, outcome


def test_test_split_is_not_read(grid):
    assert set(map(len, grid.predicted)) == {288}  # half of train + validation; test has 192


def test_tpe_search(search, tmp_path):
    text = """
base = "cnn-fast-15"
synthetic = true
search = "tpe"
objective = "loss"
runs = 1
epochs = 2
batch-size = 160
patience = 0
[space]
lr = {low = 1e-3, high = 1e-1, log = true}
shift = {low = 0, high = 2}
widths = [[4, 4, 8], [4, 8, 8]]
focus = [0.0, 0.3]
"""
    outcome = search("--trials", 3, text=text)
    assert outcome.code == 0, outcome
    found = metrics_of(tmp_path / "out")
    assert len(found["cells"]) == 3
    for cell in found["cells"]:
        assert 1e-3 <= cell["settings"]["lr"] <= 1e-1
        assert cell["settings"]["shift"] in (0, 1, 2)
    assert found["best"]["score"] == max(c["score"] for c in found["cells"] if c["complete"])
    best = tomllib.loads((tmp_path / "out" / "best.toml").read_text())
    assert best["widths"] == json.loads(found["best"]["settings"]["widths"])
    more = search("--trials", 4, text=text)
    assert more.out.count("min left") == 1
    again = metrics_of(tmp_path / "out")["cells"]
    assert again[:3] == found["cells"]
    assert len({c["settings"]["lr"] for c in again}) == 4


def test_interrupted_search_is_continued(search, grid, stop_after, tmp_path):
    with stop_after(model_parameter_tuning, "set_up", 4):
        outcome = search()
    assert outcome.code == 130
    assert "stopped; the same command goes on with the search" in outcome.err
    outcome = search()
    assert outcome.code == 0
    assert outcome.out.count("min left") == 3
    whole, resumed = (metrics_of(folder)["cells"] for folder in (grid.folder, tmp_path / "out"))

    def by_settings(cells):
        return {str(cell["settings"]): cell["accuracy"] for cell in cells}

    assert by_settings(whole) == by_settings(resumed)
    assert len(resumed) == 8


def test_search_on_postgresql(search, postgresql, tmp_path):
    url = postgresql.replace("postgresql+psycopg", "postgresql")  # as most people write it
    outcome = search("--storage", url)
    assert outcome.code == 0, outcome
    assert len(metrics_of(tmp_path / "out")["cells"]) == 8


def test_killed_command_goes_on_with_the_models_it_had(preset, tmp_path, run, monkeypatch):
    flags, out = ("--config", preset(), "--output", tmp_path / "out"), tmp_path / "printed"
    process = warm.start("tests/half_done_search.py", *flags, out=out)
    deadline = time.monotonic() + 120
    try:
        while not (out.exists() and "1/4" in out.read_text() and (half := half_done(tmp_path))):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.join()
    for name, seconds in (("BEAT", 0.5), ("GRACE", 2), ("POLL", 0.2)):
        monkeypatch.setattr(shared_study, name, seconds)
    outcome = run(SCRIPT, *flags)
    assert outcome.code == 0, outcome
    ended = optuna.load_study(study_name="out", storage=database_of(tmp_path)).trials
    (again,) = [t for t in ended if t.params == half.params and t.number != half.number]
    assert again.user_attrs["folds"][0] == half.user_attrs["folds"][0]  # its very seconds
    assert len(again.user_attrs["folds"]) == 2
    assert len({cell["trial"] for cell in metrics_of(tmp_path / "out")["cells"]}) == 4


def database_of(folder):
    return f"sqlite:///{folder / 'out' / 'study.db'}"


def half_done(folder):
    """A running trial that has one of its two models."""
    found = optuna.load_study(study_name="out", storage=database_of(folder)).trials
    running = [trial for trial in found if trial.state == TrialState.RUNNING]
    return next((t for t in running if len(t.user_attrs.get("folds", [])) == 1), None)


def test_all_trials_failing_is_told_and_leaves_the_study_usable(search):
    text = GRID.replace('model = "Baseline"', 'model = "Baseline"\nwidths = [4, 4, 4]')
    outcome = search(text=text)
    assert outcome.code == 2
    assert "no trial produced a result: --widths: Baseline has none" in outcome.err
    again = search(text=text)
    assert (again.code, again.out.count("min left")) == (2, 0)  # nothing is made twice


def test_study_of_another_search_is_left_alone(search, grid, tmp_path, monkeypatch):
    shutil.copytree(grid.folder, tmp_path / "out")
    before = metrics_of(tmp_path / "out")
    outcome = search(text=GRID.replace("0.001", "0.002"))
    assert outcome.code == 2
    assert "belongs to another search (different space)" in outcome.err
    assert "different dataset" not in outcome.err
    assert search("--patience", 4).code == 2
    assert metrics_of(tmp_path / "out") == before
    assert search().out.count("min left") == 0  # nothing left to do
    load = bloodmnist.load
    monkeypatch.setattr(bloodmnist, "load", lambda *a, **k: replace(load(*a, **k), md5="other"))
    assert "belongs to another search (different dataset)" in search().err


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "not the URL of a database"),
        ("postgresql://host:PORT/x", "not the URL of a database"),
        ("nosuchdb://host/x", "neither sqlite nor postgresql"),
        ("sqlite:////nowhere/at/all.db", "its folder does not exist"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", "refused"),
        ("mysql+pymysql://host/x", "neither sqlite nor postgresql"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
    ],
)
def test_storage_that_cannot_be_reached(fails, preset, tmp_path, url, reason):
    line = fails(SCRIPT, "--config", preset(), "--output", tmp_path, "--storage", url)
    assert reason in line
    assert "secret" not in line


def test_a_database_s_name_is_text(fails, preset, tmp_path):
    line = fails(SCRIPT, "--config", preset(), "--output", os.fsdecode(bytes(tmp_path) + b"/a\xff"))
    assert "the name of a search's database must be UTF-8" in line


def test_file_that_is_no_database(fails, preset, tmp_path):
    (tmp_path / "study.db").write_text("no database " * 100)
    assert "not a database" in fails(SCRIPT, "--config", preset(), "--output", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("lr = [0.001, 0.1]", "learning-rate = [1]", "[space] learning-rate: not a setting"),
        ("lr = [0.001, 0.1]", "batch-sise = [1]", "did you mean 'batch-size'?"),
        ("lr = [0.001, 0.1]", "lr = [0.001, -1]", "not a positive number"),
        ("lr = [0.001, 0.1]", "lr = {low = 1, high = 0.1}", "low must be below high"),
        ("lr = [0.001, 0.1]", "lr = {low = 0.01, high = 0.1}", "a grid needs a list"),
        ("lr = [0.001, 0.1]", "lr = 3", "neither a list of values nor"),
        ("[space]", "[other]", "unknown key 'other'"),
        (GRID[GRID.index("[space]") :], "space = 3", "space is not a table"),
        ("lr = [0.001, 0.1]", "lr = [0.1, 0.1]", "is listed twice"),
        ("lr = [0.001, 0.1]", "views = [1, 8]", "not a setting that a search can vary"),
        ("batch-size = [64, 128]\nlr = [0.001, 0.1]", "", "varies nothing but epochs"),
        ("folds = 2", "trials = 3", "--trials"),
        ("folds = 2", "trials = 0", "'0' is not an integer"),
        ("folds = 2", 'search = "tpe"', "--trials"),
    ],
)
def test_presets_that_make_no_search(fails, preset, tmp_path, old, new, reason):
    assert reason in fails(SCRIPT, "--config", preset(GRID.replace(old, new)), "--output", tmp_path)


@pytest.mark.parametrize(("name", "kind"), [("tuning", Choice), ("tuning-best", Range)])
def test_presets_of_the_project_make_searches(name, kind):
    parser = search_parser(str(ROOT / SCRIPT))
    args = parse(parser, ["--config", name])
    space = read_space(parser, args)
    assert isinstance(space["lr"], kind)
    total = load_preset(PRESETS / f"{name}.toml").get("trials", 9)  # of the paper's grid
    assert number_of_trials(args, space) == total


def test_flag_that_the_search_varies_is_refused(fails, preset, tmp_path):
    line = fails(SCRIPT, "--config", preset(), "--lr", 0.5, "--output", tmp_path)
    assert "--lr: does nothing, the search varies it" in line


@pytest.mark.parametrize("protocol", ["as-published", "train-and-validation"])
def test_protocol_without_untouched_images_is_refused(fails, preset, tmp_path, protocol):
    line = fails(SCRIPT, "--config", preset(), "--protocol", protocol, "--output", tmp_path)
    assert f"--protocol {protocol}: a search needs cross-validation or official" in line
