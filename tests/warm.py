"""Run a script as a process of its own, but without the seconds that loading torch takes.

A server per test worker loads the packages once, none of the project's own files; each process is a
fork of it, which is given the generated images. The files of figures are empty unless `drawn`.
Where the start itself is tested, run the script from a shell instead.
"""

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
server = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
if hasattr(os, "fork"):
    packages = ["torch", "torch._dynamo", "matplotlib.figure", "sklearn.model_selection", "optuna"]
    server.set_forkserver_preload(packages)


def start(*command, cwd=ROOT, environment=None, out=os.devnull, err=os.devnull, drawn=False):
    """Begin a script with its flags; `out` and `err` are files, or pipes with names."""
    from bloodcells.data import synthetic_cells  # not for the new process, which imports this file

    surroundings = os.environ | (environment or {})
    words = list(map(str, command))
    more = (surroundings, words, cwd, (out, err), synthetic_cells.make(), drawn)
    process = server.Process(target=become, args=more)
    process.start()
    return process


def ended(process, seconds=120):
    """The exit code of a process, which is killed if it does not end."""
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def run_at_once(*commands, cwd, seconds=120, drawn=False):
    """Run scripts at the same time, each of `commands` an environment, a script and its flags.

    Returns for each what `subprocess.run` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for number, (environment, *command) in enumerate(commands):
            streams = [Path(folder, f"{number}-{name}") for name in ("out", "err")]
            out, err = streams
            process = start(
                *command, cwd=cwd, environment=environment, out=out, err=err, drawn=drawn
            )
            started.append((command, process, streams))
        done = []
        for command, process, streams in started:
            ended(process, seconds)
            texts = [path.read_text() for path in streams]
            done.append(subprocess.CompletedProcess(command, process.exitcode, *texts))
        return done


def run(*command, cwd, seconds=120, drawn=False):
    """Run one script."""
    return run_at_once(({}, *command), cwd=cwd, seconds=seconds, drawn=drawn)[0]


@functools.cache  # torch reads the attributes of such a function
def unavailable():
    """Instead of torch's: there is no such device."""
    return False


def become(environment, command, cwd, streams, cells, drawn):
    """In the new process: be the script."""
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = open(1, "w", 1, closefd=False)  # noqa: SIM115, ends with the process
    sys.stderr = open(2, "w", 1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
    sys.argv[:] = command
    sys.path[:0] = [str(Path(command[0]).resolve().parent), str(cwd)]
    if Path(command[0]).resolve().with_name("bloodcells").is_dir():
        import torch

        from bloodcells.data import synthetic_cells
        from bloodcells.training import device

        torch.cuda.is_available = torch.backends.mps.is_available = unavailable
        device.CPU_SIDE = 64  # measuring the machine's speed takes longer than these trainings
        make = synthetic_cells.make

        def made(size: int = 28):
            return cells if size == 28 else make(size)

        synthetic_cells.make = made
    if not drawn:
        from matplotlib.figure import Figure

        Figure.savefig = lambda figure, path, **more: Path(path).touch()
    runpy.run_path(command[0], run_name="__main__")


def train_nothing(folder, ready, stop):
    """In a new process: be a training as far as others can tell, with that temporary folder."""
    from bloodcells.training.threads import trainings

    tempfile.tempdir = folder
    with trainings():
        ready.set()
        stop.wait()
