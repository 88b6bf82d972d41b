"""Data-parallel training of one model by several processes, which torchrun starts.

All processes start with the same seed, so with the same weights, and draw the same batches. Each
computes its own part of every batch, and the gradients are averaged, so that the weights stay the
same in all processes. They equal those that one process would train, except for rounding, for
dropout and domain randomisation, which each process draws for itself, and for batch normalisation,
which uses the statistics of each process's part. Without torchrun there is one process, and nothing
here has any effect.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloodcells.errors import UserError

T = TypeVar("T")


def size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; only the first, 0, writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Within the block, torchrun's processes form one group, of which only the first prints.

    Raises `UserError` for a device that cannot be used and, on CPUs, if another process ends early;
    with nccl, torchrun then ends the others.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if device.type == "mps":
        raise UserError("--device mps: torchrun needs CPUs or CUDA GPUs")
    if device.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"--nproc-per-node: at most {gpus} here, one process per GPU")
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    console = sys.stdout
    try:
        if rank():
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, ends with it
        yield
    except RuntimeError as error:
        traceback.print_exc()
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"process {rank()} of {size()}: {reason}") from error
    finally:
        sys.stdout = console
        dist.destroy_process_group()


def from_first(make: Callable[[], T]) -> T:
    """Call `make` in the first process; returns its result in all processes."""
    if size() == 1:
        return make()
    kept = [make() if rank() == 0 else None]
    dist.broadcast_object_list(kept)
    return cast(T, kept[0])


def own_random_numbers(seed: int, epoch: int) -> None:
    """Seed what each process draws for itself in an epoch, by seed, epoch and rank."""
    if size() > 1:
        entropy = np.random.SeedSequence([seed, epoch, rank()])
        torch.manual_seed(int(entropy.generate_state(1)[0]))


def part(batch: Tensor) -> Tensor:
    """This process's part of a batch; the whole batch if it has fewer images than processes."""
    return batch[rank() :: size()] if len(batch) >= size() else batch


def joined(parts: Tensor, count: int) -> Tensor:
    """The values of a whole batch of `count` images, gathered from each process's `part`."""
    if size() == 1:
        return parts
    if count < size():  # each process had the whole batch, with its own dropout
        first = parts.clone()
        dist.broadcast(first, 0)
        return first
    longest = -(-count // size())
    mine = nn.functional.pad(parts, (0, longest - len(parts)))
    every = mine.new_empty(size(), longest)
    dist.all_gather(list(every.unbind()), mine)
    return every.T.flatten()[:count]


def average_gradients(model: nn.Module, mine: int, count: int) -> None:
    """Average the gradients over the whole batch of `count` images, of which `mine` are here."""
    if size() == 1:
        return
    share = mine / count if count >= size() else 1 / size()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients]) * share
    dist.all_reduce(flat)
    averages = flat.split([g.numel() for g in gradients])
    for gradient, average in zip(gradients, averages, strict=True):
        gradient.copy_(average.view_as(gradient))


def summed(values: list[float], device: torch.device) -> list[float]:
    """The sum of each value over the processes."""
    if size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()
