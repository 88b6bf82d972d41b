"""A search's database with entries that the search did not write: used, or refused in one line."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest
from disk_faults import SMALL_SEARCH
from hypothesis import example, given
from hypothesis import strategies as st
from odd_inputs import JSON, examples, refused_in_words

import model_parameter_tuning
from bloodcells.tracking import run_folder

SHORT = st.one_of(st.none(), JSON.map(json.dumps), st.integers(), st.floats(), st.text(max_size=9))


def entries(path):
    """Every entry of the tables that hold something, as (table, column, row)."""
    with closing(sqlite3.connect(path)) as database:
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
        for (table,) in database.execute(names).fetchall():
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            rows = database.execute(f"SELECT rowid FROM {table}").fetchall()
            yield from ((table, column, row) for column in columns for (row,) in rows)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_once):
    """The folder of a finished search, and its preset."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "space.toml").write_text(SMALL_SEARCH)
    flags = ("--config", folder / "space.toml", "--output", folder / "out", "--device", "cpu")
    run_once("model_parameter_tuning.py", *flags)
    return folder


def test_databases(finished, monkeypatch, capsys):
    path, kept = finished / "out" / "study.db", finished / "kept.db"
    shutil.copy(path, kept)
    trained = {name: [0.5] for name in model_parameter_tuning.COLUMNS}
    trained |= {"diverged": False, "seconds": 1.0}
    monkeypatch.setattr(model_parameter_tuning, "train_until_it_stops", lambda *rest: trained)
    monkeypatch.setattr(run_folder, "write", lambda *rest, **more: None)  # with all its figures
    flags = ["--config", str(finished / "space.toml"), "--output", str(finished / "out")]
    monkeypatch.setattr(sys, "argv", ["model_parameter_tuning.py", *flags])

    @examples(8, 1000)
    @given(st.sampled_from(list(entries(kept))), SHORT)
    @example(("trials", "state", 1), "ODD")
    @example(("trial_params", "param_name", 1), None)
    @example(("trial_user_attributes", "trial_id", 2), "null")
    def goes_on_or_says_why(place, new):
        table, column, row = place
        shutil.copy(kept, path)
        with closing(sqlite3.connect(path)) as database:
            try:
                database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
            except (sqlite3.Error, OverflowError, UnicodeEncodeError):
                return  # SQLite itself refuses it
            database.commit()
        with refused_in_words():
            model_parameter_tuning.main()

    goes_on_or_says_why()
