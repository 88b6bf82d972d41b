"""Kill a script at one call after another on its folder, and repeat it each time.

    python killed_at_calls.py RUNS FEW EARLIER SCRIPT flags...

The calls are those of `disk_faults`: FEW of them, or all with FAULTS=all. EARLIER is a finished run
that the script is to overwrite, or "-". Of a search, another worker goes on beside the killed one.
Torch is loaded once, and each try is a fork, so that it costs no start-up. RUNS/whole is an
undisturbed run and RUNS/N one that was killed at the Nth call; RUNS/left/N has what was there after
the kill, where that is a finished run. Prints the number of kills.
"""

import functools
import importlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from disk_faults import Faults, chosen

from bloodcells.cli import arguments
from bloodcells.data import synthetic_cells
from bloodcells.reporting import results
from bloodcells.reporting.figures import search as search_figures
from bloodcells.search import study
from bloodcells.training import session

runs, few, earlier = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sys.argv = [*sys.argv[4:], "--output", ""]
script = importlib.import_module(sys.argv[0].removesuffix(".py"))
shared = script.__name__ == "model_parameter_tuning"
if shared:  # what a search loads late, each fork anew
    for module in ("alembic.command", "sqlalchemy.dialects.sqlite"):
        importlib.import_module(module)
    importlib.import_module("optuna.storages").RDBStorage("sqlite:///:memory:")
anew = () if earlier == "-" else ("--overwrite",)


def begin(folder: Path, at: int | None, flags: tuple[str, ...]) -> int:
    """Run the script in a process of its own, which dies at that call; returns its number."""
    child = os.fork()
    if child:
        return child
    sys.argv[-1:] = [str(folder), *flags]
    kills.arm(folder, at)
    arguments.run_script(script.main)
    (runs / "calls").write_text(str(kills.seen))
    os._exit(0)


def code_of(child: int) -> int:
    """The exit code of a process, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepared(name: str) -> Path:
    """A folder for a run, with the earlier one if there is one."""
    if earlier != "-":
        shutil.copytree(earlier, runs / name)
    return runs / name


def flags_to_repeat(folder: Path) -> tuple[str, ...]:
    """What the command needs to be repeated after a kill."""
    begun = (folder / "checkpoint" / "identity.json").exists()
    finished = (folder / "metrics.json").exists() and not anew
    return ("--resume",) if (begun or finished) and not shared else anew


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


kills = Faults()
kills.strike = die  # where it would raise an error
(runs / "temporary").mkdir()
tempfile.tempdir = str(runs / "temporary")  # without the lock files of other trainings
sys.addaudithook(kills.hook)
os.fsync = kills.fsync
synthetic_cells.make = functools.cache(synthetic_cells.make)
synthetic_cells.make(28)
results.draw = lambda *args: None
for name in ("history", "learning_curves"):
    setattr(search_figures, name, lambda *args: None)
session.matrix_product_gflops = lambda *args, **more: 1.0  # takes longer than the training here
study.BEAT, study.GRACE, study.POLL = 0.1, 1, 0.1
assert code_of(begin(prepared("whole"), None, anew)) == 0
killed = 0
for at in chosen(int((runs / "calls").read_text()), few):
    folder = prepared(str(at))
    children = [begin(folder, at, anew), *([begin(folder, None, ())] if shared else [])]
    codes = [code_of(child) for child in children]
    assert codes[0] == -signal.SIGKILL or (shared and codes[0] == 0), codes
    assert codes[1:] == [0] * shared, codes
    killed += codes[0] != 0
    if (folder / "metrics.json").exists():
        shutil.copytree(folder, runs / "left" / str(at))
    assert code_of(begin(folder, None, flags_to_repeat(folder))) == 0
print(killed)
