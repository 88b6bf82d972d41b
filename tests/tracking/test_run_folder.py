"""Writing into a run folder."""

import os
import time
import tomllib

import pytest

from bloodcells.tracking import run_folder


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
    yesterday = time.time() - 1.1 * run_folder.DAY
    for path in (*old, new[-1]):
        os.utime(path, (yesterday, yesterday), follow_symlinks=False)
    run_folder.write_whole(tmp_path / "a.json", b"{}")
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
