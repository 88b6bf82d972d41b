"""Data-parallel training of one model by several processes, which torchrun starts.

All processes start with the same seed, so with the same weights, and draw the same batches. Each
computes its own part of every batch, and the gradients are averaged, so that the weights stay the
same in all processes. They equal those that one process would train, except for rounding, for
dropout and domain randomisation, which each process draws for itself, and for batch normalisation,
which uses the statistics of each process's part. Without torchrun there is one process, and nothing
here has any effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def launched() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def size() -> int:
    """The number of processes."""
    return dist.get_world_size() if grouped() else 1


def rank() -> int:
    """This process's number; only the first, 0, writes files."""
    return dist.get_rank() if grouped() else 0


def grouped() -> bool:
    """Whether this process is one of a group; some builds of torch, as for Jetsons, know none."""
    return dist.is_available() and dist.is_initialized()


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
