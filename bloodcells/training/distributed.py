"""One model trained by several processes at once, which torchrun starts.

All begin with the same seed, so with the same weights, and draw the same batches; each computes its
own part of every batch, and the gradients are averaged. So the weights stay the same everywhere,
and are those of one process but for rounding, for dropout, which each process draws for itself, and
for batch normalisation, whose statistics are those of a process's part. Without torchrun there is
one process, and nothing here does anything.
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
    """This process's number; the first, 0, alone writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Within the block, the processes that torchrun started belong together; one alone prints.

    Raises `UserError` if one of the others ends in the meantime.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if device.type == "mps":
        raise UserError("--device mps: torchrun shares the work on CPUs and CUDA GPUs only")
    if device.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"--nproc-per-node: at most {gpus} here, one process a GPU")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
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
    """What `make` returns in the first process, in all of them."""
    if size() == 1:
        return make()
    kept = [make() if rank() == 0 else None]
    dist.broadcast_object_list(kept)
    return cast(T, kept[0])


def own_random_numbers(seed: int, epoch: int) -> None:
    """Give each process other random numbers for dropout, the same whenever this epoch begins."""
    if size() > 1:
        entropy = np.random.SeedSequence([seed, epoch, rank()])
        torch.manual_seed(int(entropy.generate_state(1)[0]))


def part(batch: Tensor) -> Tensor:
    """This process's share of a batch; of one with fewer images than processes, all of it."""
    return batch[rank() :: size()] if len(batch) >= size() else batch


def joined(parts: Tensor, count: int) -> Tensor:
    """The values of a whole batch of `count` images, from those of each process's `part`."""
    if size() == 1:
        return parts
    if count < size():  # all had the whole batch, and dropout of their own
        first = parts.clone()
        dist.broadcast(first, 0)
        return first
    longest = -(-count // size())
    mine = nn.functional.pad(parts, (0, longest - len(parts)))
    every = mine.new_empty(size(), longest)
    dist.all_gather(list(every.unbind()), mine)
    return every.T.flatten()[:count]


def average_gradients(model: nn.Module, mine: int, count: int) -> None:
    """Make the gradients those of the whole batch of `count` images, of which `mine` are here."""
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
    """Each value's sum over the processes."""
    if size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()
