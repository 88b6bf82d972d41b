"""Output that is closed, full, not read, or no text."""

import os
import shlex
import subprocess
import sys

import pytest
import warm
from shared import QUICK, ROOT


@pytest.mark.skipif(os.name == "nt", reason="a shell's redirection")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("2>&-", ""),
        (">&-", "no images: name files"),
        ("2>&- >&-", ""),
        ("docs/examples/monocyte.png >&-", "standard output is closed"),
    ],
)
def test_closed_streams(command, says):
    done = shell(f"predict.py {command}")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == ("2>&-" not in command)


def shell(command, stdout=subprocess.PIPE):
    """Run a command line of this Python, whose output is buffered as it usually is."""
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    line = f"{shlex.quote(sys.executable)} {command}"
    streams = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    return subprocess.run(line, shell=True, cwd=ROOT, env=surroundings, **streams)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("command", ["-m bloodcells", "model_cnn.py --help"])
def test_output_on_a_full_disk(command):
    done = shell(f"{command} > /dev/full")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_messages_on_a_full_disk():
    assert shell("predict.py 2> /dev/full").returncode == 2
    code = "from bloodcells.cli.arguments import run_script; run_script(lambda: exec('{}'))"
    stopped = code.format("print(1); raise KeyboardInterrupt")
    assert shell(f'-c "{stopped}" 2> /dev/full').returncode == 130
    assert shell(f'-c "{stopped}" > /dev/full 2>&1').returncode == 130


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
def test_output_that_nobody_reads():
    reading, writing = os.pipe()
    os.close(reading)
    done = shell("-m bloodcells", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_names_that_are_no_text():
    code = "from bloodcells.cli.arguments import run_script; run_script(print, 'a' + chr({}))"
    for letter in (0xDCFF, 0xD800):
        done = shell(f'-c "{code.format(letter)}"')
        assert (done.returncode, done.stdout) == (0, f"a\\u{letter:x}\n")


@pytest.mark.skipif(os.name == "nt", reason="a shell's redirection")
def test_a_name_that_is_no_text_while_messages_are_closed():
    code = "import sys; from bloodcells.cli.arguments import run_script; run_script({})"
    told = code.format("lambda: (print(chr(0xDCFF), file=sys.stderr), print(1))")
    done = shell(f'-c "{told}" 2>&-')
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_closed_pipe_ends_quietly(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    command = ("model_baseline.py", *QUICK, "--output", tmp_path / "run")
    process = warm.start(*command, out=tmp_path / "pipe", err=tmp_path / "err")
    with (tmp_path / "pipe").open() as reader:
        assert reader.readline()
    assert warm.ended(process) == 141
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_standard_output_that_is_full(weights, twelve, tmp_path):
    command = ("predict.py", twelve, "--weights", weights)
    process = warm.start(*command, out="/dev/full", err=tmp_path / "err")
    assert warm.ended(process) == 2
    assert (tmp_path / "err").read_text().splitlines() == [
        "predict.py: error: standard output: cannot write: No space left on device"
    ]
