"""Writing into a run folder."""

import csv
import errno
import itertools
import json
import os
import time
import tomllib
from pathlib import Path

import pytest

from bloodcells.errors import UserError
from bloodcells.tracking import atomic, run_folder

BEFORE = {"metrics.json": "{}", "a.png": "old", "a.svg": "old", "b.csv": "old", "notes.txt": "mine"}
AFTER = {"metrics.json": "{1}", "a.pdf": "new", "c.csv": "new"}


def test_a_line_break_in_a_name_stays_in_its_row(tmp_path):
    rows = [["path", "truth"], ["a\rb.png", "x"], ["a\nb.png", "y"], ["\udcff", "z"]]
    run_folder.write_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", errors="surrogateescape", encoding="utf-8") as file:
        assert list(csv.reader(file)) == rows
    assert (tmp_path / "a.csv").read_bytes().startswith(b"path,truth\n")


def test_results_replace_links_and_leave_alone_what_these_lead_to(tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.write_text("theirs")
    for name in ("metrics.json", "a.pdf"):
        (run / name).symlink_to(outside)
    save(run)
    assert outside.read_text() == "theirs"
    assert not any(path.is_symlink() for path in run.iterdir())
    assert {path.name: path.read_text() for path in run.iterdir()} == AFTER


def test_a_folder_without_a_name_gets_one(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert run_folder.find(Path(".")) == tmp_path / "run"
    assert run_folder.find(Path("..")) == tmp_path
    assert run_folder.find(Path("../run")) == Path("../run")


def test_what_killed_processes_left_is_deleted_after_a_day(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    old = [tmp_path / ".writing-old", tmp_path / "a.json.1.part", tmp_path / ".writing-link"]
    old[0].mkdir()
    old[1].write_text("half")
    old[2].symlink_to(theirs)
    new = [tmp_path / ".writing-new", tmp_path / "a.json.2.part", tmp_path / "b.json.1.part"]
    for path in new:
        path.write_text("half")
    yesterday = time.time() - 1.1 * atomic.DAY
    for path in (*old, new[-1]):
        os.utime(path, (yesterday, yesterday), follow_symlinks=False)
    atomic.write_whole(tmp_path / "a.json", b"{}")
    run_folder.write(tmp_path, lambda folder: (folder / "c").touch(), last="c")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.json", "c", "theirs", *(path.name for path in new)}


@pytest.mark.parametrize("name", ["plain", "\U0001fa78 blood", 'quote" and \\', "delete\x7f"])
def test_settings_are_a_preset_whatever_the_names(tmp_path, name):
    run_folder.write_toml(tmp_path / "config.toml", {"teacher": name, "labels": None})
    assert tomllib.loads((tmp_path / "config.toml").read_text("utf-8")) == {"teacher": name}


def test_settings_with_a_name_that_is_no_text(tmp_path):
    run_folder.write_toml(tmp_path / "config.toml", {"teacher": "a\udcff"})
    assert tomllib.loads((tmp_path / "config.toml").read_text("utf-8")) == {"teacher": "a?"}


def save(folder):
    """Write `AFTER` into the folder, as a script does; `b.csv` is one of its earlier files."""

    def fill(new):
        for name, text in AFTER.items():
            (new / name).write_text(text)

    run_folder.write(folder, fill, last="metrics.json", stale=["b.*"])


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    for name, text in BEFORE.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def moves(monkeypatch, fails):
    """Let each move fail for whose number `fails` returns an error; Ctrl-C comes after it."""
    replace, moved = os.replace, []

    def counted(source, target):
        moved.append(Path(source).name)
        error = fails(len(moved))
        if isinstance(error, OSError):
            raise error
        replace(source, target)
        if error:
            raise error

    monkeypatch.setattr(os, "replace", counted)
    return moved


def test_results_replace_the_earlier_ones(folder, monkeypatch):
    moved = moves(monkeypatch, lambda number: None)
    save(folder)
    gone, come = moved[:4], moved[4:]
    assert gone[0] == come[-1] == "metrics.json"  # which marks the folder as finished
    assert set(gone) == BEFORE.keys() - {"notes.txt"}
    assert set(come) == AFTER.keys()
    assert contents(folder) == {**AFTER, "notes.txt": "mine"}


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "in use"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_move_that_fails_changes_nothing(folder, monkeypatch, at, error):
    moves(monkeypatch, lambda number: error if number == at else None)
    with pytest.raises((UserError, KeyboardInterrupt)):
        save(folder)
    assert contents(folder) == BEFORE


def test_moves_that_cannot_be_undone_lose_nothing(folder, monkeypatch):
    moves(monkeypatch, lambda number: OSError(errno.EIO, "broken") if number > 4 else None)
    with pytest.raises(UserError, match="broken; the earlier results are in ") as caught:
        save(folder)
    kept = str(caught.value).partition("the earlier results are in ")[2]
    assert contents(Path(kept)) == {k: v for k, v in BEFORE.items() if k != "notes.txt"}


def test_two_processes_that_write_the_same(folder, monkeypatch):
    def first_the_other(number):
        monkeypatch.undo()
        save(folder)

    moves(monkeypatch, first_the_other)
    save(folder)
    assert contents(folder) == {**AFTER, "notes.txt": "mine"}


def test_only_files_and_figures_of_the_pattern_are_stale(tmp_path):
    for name in ("map.png", "map.svg", "map.txt", "map-mine.png"):
        (tmp_path / name).touch()
    (tmp_path / "map.pdf").mkdir()
    run_folder.write(tmp_path, lambda new: (new / "a.json").touch(), "a.json", stale=["map"])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.json", "map.pdf", "map.txt", "map-mine.png"}


def test_a_folder_with_the_name_of_a_result_stays(folder):
    (folder / "c.csv").mkdir()
    with pytest.raises(UserError, match=r"c\.csv there is a folder"):
        save(folder)
    (folder / "c.csv").rmdir()
    assert contents(folder) == BEFORE


@pytest.mark.parametrize("name", ["figure.PDF", "a.csv", "config.toml", "a.safetensors"])
def test_a_folder_of_others_is_not_written_to(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"it holds {name}, but no readable results of explain.py"):
        run_folder.prepare(tmp_path, script="explain.py")


def test_a_log_or_a_preset_or_a_folder_may_lie_where_results_go(tmp_path):
    for name in ("log.txt", "mine.toml"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".cache.json").write_text("{}")
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cell.png").write_text("mine")
    run_folder.prepare(tmp_path, script="explain.py")


def test_results_whose_moves_were_cut_short_may_be_written_again(folder):
    (folder / "metrics.json").unlink()
    (folder / ".writing-abc").mkdir()
    run_folder.prepare(folder, script="explain.py")


def test_an_unfinished_run_of_another_script_stays(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    identity = {"script": "model_cnn.py", "code": {}}
    (tmp_path / "checkpoint" / "identity.json").write_text(json.dumps(identity))
    run_folder.prepare(tmp_path, script="model_cnn.py")
    with pytest.raises(UserError, match="an unfinished run of model_cnn"):
        run_folder.prepare(tmp_path, script="explain.py")


@pytest.mark.parametrize(("durable", "flushes"), [(True, 2), (False, 0)])
def test_a_file_that_has_to_survive_a_power_cut_is_flushed(tmp_path, monkeypatch, durable, flushes):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(file) or fsync(file))
    atomic.write_whole(tmp_path / "a.json", b"{}", durable)
    assert len(flushed) == flushes  # the file and its name
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_a_file_that_cannot_be_written_keeps_its_content(folder, monkeypatch):
    moves(monkeypatch, lambda number: OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(UserError, match="cannot be written: No space left on device; the previous"):
        atomic.write_whole(folder / "metrics.json", b"{2}")
    assert contents(folder) == BEFORE


@pytest.mark.parametrize(
    ("winerror", "times", "lost"), [(5, 2, False), (32, 99, True), (3, 1, True)]
)
def test_a_file_that_is_open_elsewhere_for_a_moment(folder, monkeypatch, winerror, times, lost):
    """On Windows; elsewhere such an error has no `winerror`."""
    real, waits, refused = os.replace, [], itertools.count(1)

    def busy(source, target):
        if next(refused) <= times:
            error = OSError(errno.EACCES, "Access is denied")
            error.winerror = winerror
            raise error
        return real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(atomic.time, "sleep", waits.append)
    path = folder / "metrics.json"
    if lost:
        with pytest.raises(UserError, match="Access is denied; the previous file is unchanged"):
            atomic.write_whole(path, b"new")
    else:
        atomic.write_whole(path, b"new")
        assert path.read_bytes() == b"new"
    assert len(waits) == {5: 2, 32: len(atomic.WAITS), 3: 0}[winerror]
