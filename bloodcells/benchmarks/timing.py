"""How fast a machine computes: the clock and the yardsticks of `bench.py` and of every run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bloodcells.cli.recipe import Recipe
from bloodcells.training import loop
from bloodcells.training.optim import Optimization

CPU_SIDE, GPU_SIDE = 1536, 8192  # of the matrices that are multiplied


def seconds_in_turn(
    works: Sequence[Callable[[], object]], device: torch.device, repeats: int, limit: float = 5.0
) -> list[float]:
    """Median wall time of each of `works` over `repeats` rounds after one that does not count.

    A round does each once, so that a machine whose speed drifts bends their ratios little. Past
    `limit` seconds in all no further round is begun, but one is always timed.
    """

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if device.type != "cpu":  # which returns before the work is done
            getattr(torch, device.type).synchronize()
        return time.perf_counter() - start

    rounds = []
    began = time.perf_counter()
    while len(rounds) < 2 or (len(rounds) <= repeats and time.perf_counter() - began < limit):
        rounds.append([timed(work) for work in works])
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """`seconds_in_turn` of one work."""
    return seconds_in_turn([work], device, repeats)[0]


def matrix_product(precision: str, device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """A product of square matrices, which comes near a machine's peak, and its GFLOP.

    Torch's own random numbers are left alone, so that a training may go on after it.
    """
    side = GPU_SIDE if device.type == "cuda" else CPU_SIDE
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.rand(side, side, device=device, generator=generator).to(getattr(torch, precision))
        for _ in range(2)
    )
    return partial(torch.matmul, left, right), 2 * side**3 / 1e9


def matrix_product_gflops(precision: str, device: torch.device, repeats: int) -> float:
    """GFLOP/s of `matrix_product`."""
    product, gflop = matrix_product(precision, device)
    return gflop / seconds(product, device, repeats)


class Step:
    """One training step of a network on random images, in parts that can be timed."""

    def __init__(self, model: nn.Module, batch: int, size: int, recipe: Recipe, device):
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.device, self.recipe = device, recipe
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(8, (batch,), device=device)
        self.optimization = Optimization(self.model, recipe, steps=10**9)

    def forward(self) -> Tensor:
        with loop.autocast(self.device, self.recipe.precision):
            logits = self.model(self.images).float()
        return nn.functional.cross_entropy(logits, self.labels)

    def backward(self) -> None:
        """The gradients, the forward pass that they need included."""
        self.optimization.zero_grad()
        self.forward().backward()

    def step(self) -> None:
        self.backward()
        self.optimization.step()

    def gflop(self, part: Callable[[], object]) -> float:
        """Operations of `part` in matrix products and convolutions, in units of 10^9."""
        with FlopCounterMode(display=False) as counter:
            part()
        return counter.get_total_flops() / 1e9

    def speed(self, repeats: int) -> dict:
        """Operations and seconds of the forward pass, the backward pass and the whole step.

        `peak_gflops` is the speed of matrix products in the same minute.
        """
        product, product_gflop = matrix_product(self.recipe.precision, self.device)
        works = (self.forward, self.backward, self.step, product)
        forward, both, step, one = seconds_in_turn(works, self.device, repeats, limit=30.0)
        forward_gflop, both_gflop = self.gflop(self.forward), self.gflop(self.backward)
        return {
            "peak_gflops": product_gflop / one,
            "forward": {"gflop": forward_gflop, "seconds": forward},
            "backward": {"gflop": both_gflop - forward_gflop, "seconds": both - forward},
            "step": {"gflop": self.gflop(self.step), "seconds": step},
        }

    def operators(self, repeats: int) -> dict[str, float]:
        """The share of a step's time that each of torch's operators takes, largest first."""
        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] * (self.device.type == "cuda")
        self.step()
        with profile(activities=kinds) as profiler:
            for _ in range(repeats):
                self.step()
        on_gpu = self.device.type == "cuda"
        times = {
            event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
            for event in profiler.key_averages()
            if event.device_type == DeviceType.CPU  # an operator, not one of its GPU kernels
        }
        total = sum(times.values())
        return {name: t / total for name, t in sorted(times.items(), key=lambda i: -i[1]) if t}
