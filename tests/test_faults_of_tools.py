"""A disk that fails while the other scripts write: one line, and a repeat makes it good."""

import hashlib
import os
import shutil
from contextlib import suppress

import medmnist
import numpy as np
import onnxruntime
import pytest
from disk_faults import ERRORS, SMALL_SEARCH, SOME, chosen, kill_at_calls
from PIL import Image
from written import metrics_of

from bloodcells.data import download
from bloodcells.errors import UserError
from bloodcells.inference import onnx_export

TOOLS = {
    "figures": ("data_visualization.py", "--synthetic", "--montage", "1", "--examples", "1"),
    "architecture": ("architecture.py", "--model", "Baseline"),
    "labelled images": ("predict.py", "IMAGES", "--labelled", "--weights", "WEIGHTS"),
    "export": ("predict.py", "--weights", "WEIGHTS"),
}


@pytest.fixture
def tool(run, weights, tmp_path):
    """Runs one of `TOOLS`, which writes into a folder; returns its outcome."""
    folder = tmp_path / "images" / "monocyte"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((28, 28, 3), 99, np.uint8)).save(folder / "cell.png")

    def call(name, target):
        places = {"IMAGES": folder.parent, "WEIGHTS": weights}
        script, *flags = (places.get(flag, flag) for flag in TOOLS[name])
        output = ("--export", target / "model.onnx") if name == "export" else ("--output", target)
        return run(script, *flags, *output)

    return call


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("what", TOOLS)
def test_error_at_a_call_of_a_tool(tool, faults, tmp_path, monkeypatch, what, name):
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    assert tool(what, first).code == 0
    if what == "export":  # the same bytes each time, without the seconds that making them takes
        exported = (first / "model.onnx").read_bytes()
        monkeypatch.setattr(onnx_export, "write", lambda _, path, size: path.write_bytes(exported))
    shutil.copytree(first, again)
    faults.arm(again)
    outcome = tool(what, again)
    faults.disarm()
    assert outcome.code == 0, outcome
    files = {path.name for path in first.iterdir()}
    for at in chosen(faults.seen, 1):
        folder = tmp_path / f"at-{at}"
        shutil.copytree(first, folder)
        faults.arm(folder, at, ERRORS[name])
        outcome = tool(what, folder)
        faults.disarm()
        where = (what, at, name, outcome)
        assert faults.seen >= at, where
        assert outcome.code in (0, 2), where
        assert "Traceback" not in outcome.err, where
        if what == "export":  # whole, be it the earlier file or the new one
            onnxruntime.InferenceSession(folder / "model.onnx")
        assert tool(what, folder).code == 0, where
        left = {path.name for path in folder.glob(".*-*")}  # its removal failed
        assert all(one in outcome.out + outcome.err for one in left), where
        assert {path.name for path in folder.iterdir()} - left == files, where
        shutil.rmtree(folder)


def scores(folder):
    """The score of each cell of a search."""
    cells = metrics_of(folder)["cells"]
    return {str(cell["settings"]): cell["score"] for cell in cells}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_one_of_two_workers_of_a_search_is_killed_at_a_call(tmp_path):
    runs, preset = tmp_path / "runs", tmp_path / "space.toml"
    runs.mkdir()
    preset.write_text(SMALL_SEARCH)
    kills = kill_at_calls(runs, 1, "-", "model_parameter_tuning.py", "--config", preset)
    assert kills >= 1
    expected = scores(runs / "whole")
    assert len(expected) == 2
    assert all(scores(folder) == expected for folder in runs.glob("[0-9]*"))
    assert all(scores(folder) == expected for folder in (runs / "left").glob("*"))


@pytest.mark.parametrize("name", SOME)
def test_error_at_a_call_of_a_search(run, faults, tmp_path, name):
    """The database itself is SQLite's, which does not call Python; its lock does."""
    (tmp_path / "space.toml").write_text(SMALL_SEARCH)

    def search(folder):
        return run(
            "model_parameter_tuning.py", "--config", tmp_path / "space.toml", "--output", folder
        )

    faults.arm(tmp_path / "whole")
    outcome = search(tmp_path / "whole")
    faults.disarm()
    assert outcome.code == 0, outcome
    expected = scores(tmp_path / "whole")
    assert len(expected) == 2
    for at in chosen(faults.seen, 2):
        folder = tmp_path / f"at-{at}"
        faults.arm(folder, at, ERRORS[name])
        outcome = search(folder)
        faults.disarm()
        where = (at, name, outcome)
        assert outcome.code in (0, 2), where
        assert "Traceback" not in outcome.err, where
        assert search(folder).code == 0, where
        assert scores(folder) == expected, where
        left = [path.name for path in folder.glob(".*-*")]  # its removal failed
        assert all(f"{one} could not be removed" in outcome.err for one in left), where
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ERRORS)
def test_error_at_a_call_of_a_download(faults, tmp_path, monkeypatch, capsys, name):
    def fetch(folder, size):
        np.savez(folder / "bloodmnist.npz", train_images=np.zeros(9))
        return folder / "bloodmnist.npz"

    (tmp_path / "official").mkdir()
    content = fetch(tmp_path / "official", 28).read_bytes()
    monkeypatch.setattr(download, "from_official", fetch)
    monkeypatch.setattr(download, "official", lambda *rest: hashlib.md5(content).hexdigest())
    monkeypatch.delenv("MEDMNIST_ROOT", raising=False)
    monkeypatch.setattr(medmnist.info, "DEFAULT_ROOT", str(tmp_path / "default"))
    faults.arm(tmp_path / "whole")
    download.find_or_download(tmp_path / "whole", 28)
    faults.disarm()
    for at in range(1, faults.seen + 1):
        folder = tmp_path / f"at-{at}"
        faults.arm(folder, at, ERRORS[name])
        with suppress(UserError):
            download.find_or_download(folder, 28)
        faults.disarm()
        path, _ = download.find_or_download(folder, 28)
        assert path.read_bytes() == content, at
        left, said = set(os.listdir(folder)) - {"bloodmnist.npz"}, capsys.readouterr().err
        assert all(f"{one} could not be removed" in said for one in left), at


@pytest.mark.parametrize("name", SOME)
def test_error_at_a_call_of_the_report(run, faults, quick_run, tmp_path, name):
    """The page: an earlier one stays whole."""
    plots, other = tmp_path / "plots", shutil.copytree(quick_run, tmp_path / "other")

    def report():
        return run("report.py", "--compare", quick_run, other, "--plots", plots)

    plots.mkdir()
    faults.arm(plots)
    assert report().code == 0
    faults.disarm()
    page = plots / "comparison.html"
    whole = page.read_bytes()
    for at in chosen(faults.seen, 1):
        page.write_bytes(b"the earlier page")
        faults.arm(plots, at, ERRORS[name])
        outcome = report()
        faults.disarm()
        assert outcome.code in (0, 2), (at, outcome)
        assert "Traceback" not in outcome.err, (at, outcome)
        assert page.read_bytes() in (b"the earlier page", whole), at
        assert os.listdir(plots) == [page.name], at


@pytest.mark.parametrize("name", SOME)
def test_error_at_a_call_of_the_documents(run, faults, documents, readme, monkeypatch, name):
    """Each document is whole, be it the earlier one or the new one."""
    for part in ("write_page", "draw", "write_code_list"):
        monkeypatch.setattr(f"report.{part}", lambda *_: [])
    folder = readme.parent
    before = {path: path.read_text() for path in folder.rglob("*.md")}
    faults.arm(folder)
    assert run("report.py", *documents).code == 0
    faults.disarm()
    after = {path: path.read_text() for path in folder.rglob("*.md")}
    assert after.keys() == before.keys()
    assert after[readme] != before[readme]
    for at in chosen(faults.seen, 1):
        for path, text in before.items():
            path.write_text(text)
        faults.arm(folder, at, ERRORS[name])
        outcome = run("report.py", *documents)
        faults.disarm()
        assert outcome.code in (0, 2), (at, outcome)
        assert "Traceback" not in outcome.err, (at, outcome)
        for path in folder.rglob("*.*"):
            assert path.read_text() in (before[path], after[path]), (at, path)
