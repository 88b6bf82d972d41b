"""How scripts end: exit codes, one line, and where the traceback of a defect is."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import warm
from shared import ROOT

from bloodcells.cli import arguments

SLOW = "print('loading', flush=True)\nimport time\ntime.sleep(60)\n"


def end_by(error, capsys):
    """The exit code and the message of a script that raises an error."""

    def fails():
        raise error

    with pytest.raises(SystemExit) as stop:
        arguments.run_script(fails)
    return stop.value.code, capsys.readouterr().err


def test_a_defect_is_one_line_and_its_traceback_a_file(capsys, monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")

    def defect():
        raise ValueError("two\nlines")

    with pytest.raises(SystemExit) as stop:
        arguments.run_script(defect)
    assert stop.value.code == 70
    (line,) = capsys.readouterr().err.splitlines()
    first = defect.__code__.co_firstlineno
    assert (
        f": defect: ValueError: two lines (tests/cli/test_endings.py, line {first + 1}, in "
        "defect); unless you edited the code, please report it with the traceback" in line
    )
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


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errno.ENOSPC, "No space left on device; make room"),
        (errno.EACCES, "Permission denied; change its permissions"),
        (errno.ENAMETOOLONG, "File name too long; name another file"),
    ],
)
def test_what_the_system_refuses_is_no_defect(capsys, error, says):
    code, line = end_by(OSError(error, os.strerror(error), "log.txt"), capsys)
    assert code == 2
    assert f"error: log.txt: {says}" in line


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    command = [sys.executable, "-S", "predict.py", "cell.png"]  # -S: without installed packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("predict.py: error: No module named")
    assert "make setup" in line


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


def test_a_password_is_not_shown(fails):
    line = fails("model_cnn.py", "--storage", "postgresql://me:secret@host/db")
    assert "secret" not in line
    assert "postgresql://...@host/db" in line


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: out of memory"),  # of a context
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
    ],
    ids=["cuda", "context", "mps", "cublas"],
)
def test_gpu_out_of_memory_is_not_a_defect(capsys, monkeypatch, error):
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    code, line = end_by(error, capsys)
    assert code == 2
    assert "the device is out of memory; lower --batch-size" in line


def test_a_gpu_that_torch_has_no_code_for_is_no_defect(capsys, monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    error = torch.AcceleratorError("CUDA error: no kernel image is available\nCompile with ...")
    code, line = end_by(error, capsys)
    assert code == 2
    assert line.endswith(
        "error: the GPU cannot be used: CUDA error: no kernel image is available; update its "
        "driver, install a torch made for it, or pass --device cpu\n"
    )


def test_another_failure_of_a_gpu_is_a_defect(capsys, monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    error = torch.AcceleratorError("CUDA error: device-side assert triggered")
    code, line = end_by(error, capsys)
    assert code == 70
    assert f"defect: AcceleratorError: {error}" in line
    Path(line.strip().rpartition("which is in ")[2]).unlink()


def test_a_package_that_is_missed_late_is_no_defect(capsys, monkeypatch):
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    with pytest.raises(SystemExit) as stop:
        arguments.run_script(lambda: __import__("nosuchpackage"))
    assert stop.value.code == 2
    assert "No module named 'nosuchpackage'; run make setup" in capsys.readouterr().err


def test_an_interactive_session_is_left_alone():
    """In a folder of the project, too."""
    code = "import sys, bloodcells.cli.arguments; print(sys.excepthook is sys.__excepthook__)"
    command, surroundings = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    settings = {"cwd": ROOT / "docs", "env": surroundings, "capture_output": True, "text": True}
    done = subprocess.run(command, **settings)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("size", [None, 10**17])
def test_no_memory_is_no_defect(capsys, monkeypatch, size):
    def greedy():
        if size:
            torch.empty(size, dtype=torch.uint8)
        raise MemoryError

    monkeypatch.delenv("BLOODCELLS_DEBUG")
    with pytest.raises(SystemExit) as stop:
        arguments.run_script(greedy)
    assert stop.value.code == 2
    assert "out of memory; close other programs" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["torch", "argparse"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_modules_load(tmp_path, name, module):
    (tmp_path / f"{module}.py").write_text(SLOW)
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


def test_a_second_process_is_told_who_is_at_work_and_sigterm_ends_after_the_batch(fails, tmp_path):
    flags = ["--synthetic", "--folds", "2", "--epochs", "100000", "--device", "cpu"]
    folder, out, err = tmp_path / "run", tmp_path / "out", tmp_path / "err"
    command = ("model_baseline.py", *flags, "--output", folder)
    first = warm.start(*command, out=out, err=err)
    try:
        deadline = time.monotonic() + 120
        while not (out.exists() and "epoch 2/" in out.read_text()):
            assert first.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        line = fails(*command)
        os.kill(first.pid, signal.SIGTERM)
        first.join(120)
    finally:
        warm.ended(first, seconds=0)
    assert f"another process is at work there (process {first.pid} on {os.uname().nodename}" in line
    assert first.exitcode == 143
    one, *_, last = err.read_text().strip().splitlines()
    assert one == "stopping after this batch; again to stop at once"
    assert last.startswith("stopped; resume with: python model_baseline.py --synthetic")
    assert last.endswith("--resume")
    kept = torch.load(folder / "checkpoint" / "seed-0-fold-0.pt", weights_only=True)
    assert len(kept["history"]) >= 2
    line = fails(*command)
    assert "it holds an unfinished experiment; pass --resume" in line
