"""The group of processes that torchrun starts."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TypeVar

import torch
import torch.distributed as dist

from bloodcells.errors import UserError
from bloodcells.training import distributed

T = TypeVar("T")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within the block, torchrun's processes form one group, of which only the first prints.

    Raises `UserError` for a device that cannot be used, and if another process is lost.
    """
    if not distributed.launched():
        yield
        return
    try:
        dist.init_process_group(choose_backend(device))
        with (
            open(os.devnull, "w", encoding="utf-8", errors="replace") as nowhere,
            redirect_stdout(nowhere) if distributed.rank() else nullcontext(),
        ):
            yield
    except RuntimeError as error:
        if not is_of_the_group(error):
            raise
        if os.environ.get("BLOODCELLS_DEBUG"):
            traceback.print_exc()
        reason = " ".join(str(error).split())[:200]
        rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
        raise UserError(f"process {rank} of {size}: {reason}") from error
    # only here: after a failure, it could wait for the others' part of an unfinished exchange
    dist.destroy_process_group()


def told_once(make: Callable[[], T]) -> T:
    """`distributed.from_first`, but a `UserError` ends all processes, and is told once."""

    def made() -> T | UserError:
        try:
            return make()
        except UserError as error:
            return error

    found = distributed.from_first(made)
    if isinstance(found, UserError):
        raise SystemExit(2) if distributed.rank() else found
    return found


def choose_backend(device: torch.device) -> str:
    """What the processes exchange tensors with; with CUDA, this one takes its own GPU.

    Raises `UserError` for a device that cannot be used.
    """
    if device.type == "mps":
        raise UserError("--device mps: torchrun needs CPUs or CUDA GPUs")
    if device.type == "cpu":
        return "gloo"
    if not dist.is_nccl_available():
        raise UserError("--device cuda: this build of torch has no nccl for torchrun; use cpu")
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= gpus:
        raise UserError(f"--nproc-per-node: at most {gpus} here, one process per GPU")
    torch.cuda.set_device(local)
    return "cpu:gloo,cuda:nccl"


def is_of_the_group(error: RuntimeError) -> bool:
    """Whether another process, or the way to it, is lost; gloo has no error class of its own."""
    return isinstance(error, dist.DistError) or bool(re.search(r"\bgloo\b", str(error)))
