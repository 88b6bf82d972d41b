"""Kill a training script again and again until it ends by itself.

    python forked_runs.py NOTES RUNS flags of model_cnn.py...

Torch is loaded and the cells are drawn once, and each try is a fork, so that a kill costs no
start-up. Half of the kills come at a random moment after a write or an epoch, the other half just
before or after a write.
A run that ends too early is followed by another one: RUNS/0, RUNS/1 and so on. Prints how many
kills there were of each, and how many tries began in the middle of a model.
"""

import functools
import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

from disk_faults import EVERY

import model_cnn
from bloodcells.cli import arguments
from bloodcells.data import synthetic_cells
from bloodcells.reporting import results
from bloodcells.tracking import run_folder
from bloodcells.training import checkpoint, checkpoint_folder, session

KILLS = 20 if EVERY else 6
notes = Path(sys.argv[1])  # what a try leaves for this process to see
runs = Path(sys.argv[2])
sys.argv = ["model_cnn.py", *sys.argv[3:], "--output", ""]
chance = random.Random(0)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(work, events, deadline):
    """As the real function, but the process dies before or after the `deadline`-th of `events`."""

    @functools.wraps(work)
    def call(*args):
        (notes / "wrote").touch()
        if next(events) == deadline:
            die()
        result = work(*args)
        if next(events) == deadline:
            die()
        return result

    return call


def train(deadline: int | None) -> None:
    """One try, in a process of its own."""
    events = itertools.count(1)
    restore = checkpoint.Checkpoint.restore

    def noted(*args):
        history = restore(*args)
        if history:
            (notes / f"resumed-{os.getpid()}").touch()
        return history

    checkpoint.Checkpoint.restore = noted  # type: ignore[method-assign]
    save = checkpoint.Checkpoint.save

    def saved(*args):
        save(*args)
        (notes / "saved").touch()

    checkpoint.Checkpoint.save = saved  # type: ignore[method-assign]
    os.fsync = deadly(os.fsync, events, deadline)
    run_folder.write_json = deadly(run_folder.write_json, events, deadline)
    end = deadly(checkpoint_folder.CheckpointFolder.end, events, deadline)
    checkpoint_folder.CheckpointFolder.end = end  # type: ignore[method-assign]
    arguments.run_script(model_cnn.main)
    os._exit(0)


synthetic_cells.make = functools.cache(synthetic_cells.make)
synthetic_cells.make(28)
results.draw = lambda *args: None
session.matrix_product_gflops = lambda *args, **more: 1.0  # takes longer than the training here
killed = [0, 0]  # at random; within a write
number = 0
while True:
    sys.argv[-1] = str(runs / str(number))
    for name in ("wrote", "saved"):
        (notes / name).unlink(missing_ok=True)
    within = sum(killed) % 2
    alive = sum(killed) >= KILLS
    child = os.fork()
    if child == 0:
        train(chance.randint(1, 9) if within and not alive else None)
    chance.random()  # the next child is to draw another number
    ended = (0, 0)
    if not within and not alive:
        begun = notes / ("saved" if killed[0] % 2 else "wrote")  # so that some are in a model
        while not begun.exists() and ended == (0, 0):
            ended = os.waitpid(child, os.WNOHANG)
            time.sleep(0.002)
        if ended == (0, 0):
            time.sleep(chance.uniform(0, 0.2))
            os.kill(child, signal.SIGKILL)
    _, status = ended if ended != (0, 0) else os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killed[within] += 1
        continue
    number += 1
    if os.waitstatus_to_exitcode(status) or sum(killed) >= KILLS:
        print(*killed, len(list(notes.glob("resumed-*"))))
        sys.exit(os.waitstatus_to_exitcode(status))
