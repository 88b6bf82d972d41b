"""The time that torchrun's processes take to average their gradients, on one machine."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

import torch
import torch.distributed as dist

import models
from bloodcells.errors import UserError
from bloodcells.training import distributed

ROUNDS, MOST_SECONDS = 20, 300


def seconds_of(processes: int) -> float:
    """Median seconds of averaging CellNet's gradients among so many processes.

    Raises `UserError` if one fails, such as for a torch without `torch.distributed`.
    """
    spawn = multiprocessing.get_context("spawn")
    found = spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        settings = processes, Path(folder) / "meeting", found
        group = [
            spawn.Process(target=average, args=(n, *settings), daemon=True)
            for n in range(processes)
        ]
        for process in group:
            process.start()
        try:
            deadline = time.monotonic() + MOST_SECONDS
            while found.empty():
                if time.monotonic() > deadline:
                    raise UserError("the processes to average gradients do not answer")
                if failed := [process.exitcode for process in group if process.exitcode]:
                    raise UserError(
                        f"a process that averages gradients ended with code {failed[0]}"
                    )
                time.sleep(0.1)
            return found.get()
        finally:
            for process in group:
                process.kill()
                process.join()


def average(rank: int, processes: int, meeting: Path, found: Queue[float]) -> None:
    """Average gradients of zero; the first process reports the median of its times."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes
    )
    model = models.CellNet()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        distributed.average_gradients(model, 1, processes)
        times.append(time.perf_counter() - start)
    if rank == 0:
        found.put(statistics.median(times))
    dist.destroy_process_group()
