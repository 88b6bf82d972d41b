"""How scripts end: exit codes, one line, and where the traceback of a defect is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from bloodcells.cli import arguments

SLOW_TORCH = "print('loading', flush=True)\nimport time\ntime.sleep(60)\n"


def test_a_defect_is_one_line_and_its_traceback_a_file(capsys, monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")

    def defect():
        raise ValueError("two\nlines")

    with pytest.raises(SystemExit) as stop:
        arguments.run_script(defect)
    assert stop.value.code == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert ": defect: ValueError: two lines; please report it with the traceback" in line
    path = Path(line.rpartition("which is in ")[2])
    text = path.read_text()
    path.unlink()
    assert "in defect" in text
    assert text.startswith("python ")


def test_a_defect_without_a_place_for_its_traceback(capsys, monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")

    def full(*args, **more):
        raise OSError("full")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(SystemExit):
        arguments.run_script(lambda: 1 / 0)
    assert "set BLOODCELLS_DEBUG=1 to see the traceback" in capsys.readouterr().err


def test_debugging_shows_the_traceback():
    with pytest.raises(ZeroDivisionError):
        arguments.run_script(lambda: 1 / 0)


def test_a_full_disk_is_no_defect(capsys, monkeypatch):
    def full():
        raise OSError(28, "No space left on device", "log.txt")

    with pytest.raises(SystemExit) as stop:
        arguments.run_script(full)
    assert stop.value.code == 2
    assert "error: log.txt: No space left on device; make room" in capsys.readouterr().err


def test_a_password_is_not_stored(monkeypatch, capsys):
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    monkeypatch.setattr(sys, "argv", ["a.py", "--storage", "postgresql://me:secret@host/db"])
    with pytest.raises(SystemExit):
        arguments.run_script(lambda: 1 / 0)
    path = Path(capsys.readouterr().err.strip().rpartition("which is in ")[2])
    text = path.read_text()
    path.unlink()
    assert "secret" not in text
    assert "postgresql://...@host/db" in text


def test_no_memory_is_no_defect(capsys):
    def greedy():
        raise MemoryError

    with pytest.raises(SystemExit) as stop:
        arguments.run_script(greedy)
    assert stop.value.code == 2
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_modules_load(tmp_path, name):
    (tmp_path / "torch.py").write_text(SLOW_TORCH)
    code = f"import signal; signal.signal(signal.{name}, signal.default_int_handler if "
    code += f"'{name}' == 'SIGINT' else signal.SIG_DFL)\n"
    code += "import runpy, sys; sys.argv = ['model_baseline.py', '--synthetic']\n"
    code += f"sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
    code += "runpy.run_path('model_baseline.py', run_name='__main__')\n"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate()
    assert process.returncode == 128 + getattr(signal, name)
    assert errors.strip() == "interrupted: no result was written"


def test_a_second_process_is_told_who_is_at_work(fails, tmp_path):
    flags = ["--synthetic", "--folds", "2", "--epochs", "100000", "--device", "cpu"]
    command = [sys.executable, "model_baseline.py", *flags, "--output", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert any("epoch 1/" in line for line in first.stdout)
        line = fails("model_baseline.py", *flags, "--output", tmp_path)
        first.send_signal(signal.SIGTERM)
        first.communicate()
    assert f"another process is at work there (process {first.pid} on {os.uname().nodename}" in line
    assert first.returncode == 143
    line = fails("model_baseline.py", *flags, "--output", tmp_path)
    assert "it holds an unfinished experiment; pass --resume" in line
