"""How close a network's training step comes to peak speed, and where its time goes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bloodcells.cli.recipe import Recipe
from bloodcells.evaluation.prediction import predict
from bloodcells.training.device import autocast, matrix_product, seconds_in_turn
from bloodcells.training.optim import make_optimizers
from bloodcells.training.threads import use_threads

TrainEpoch = Callable[..., object]  # model_cnn.train_epoch, or one with the same arguments


def process_of_its_own() -> ProcessPoolExecutor:
    """A new process with this one's number of threads; its memory is managed as usual."""
    spawn, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    return ProcessPoolExecutor(1, spawn, initializer=use_threads, initargs=(threads,))


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """`seconds_in_turn` for a single function."""
    return seconds_in_turn([work], device, repeats)[0]


class OneBatch:
    """A single batch of random images, in place of an epoch's `Batches`."""

    def __init__(self, count: int, size: int, device: torch.device):
        images = torch.randn(count, 3, size, size, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(8, (count,), device=device)
        self.rows = torch.arange(count)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.images, self.labels

    def record(self, losses: Tensor) -> None:
        """Ignore the losses, which `Batches` would record."""


class Step:
    """One training step of a network on random images, in parts that can be timed."""

    def __init__(
        self,
        model: nn.Module,
        count: int,
        size: int,
        recipe: Recipe,
        device: torch.device,
        train: TrainEpoch,
    ):
        """`count` images of `size` pixels; `train` trains for one epoch, which is one step here."""
        self.model: nn.Module = model.to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        ).train()
        self.device, self.recipe, self.train = device, recipe, train
        self.batch = OneBatch(count, size, device)
        self.optimizers = make_optimizers(self.model, recipe)

    def forward(self) -> Tensor:
        """The forward pass alone: the loss."""
        with autocast(self.device, self.recipe.precision):
            logits = self.model(self.batch.images).float()
        return nn.functional.cross_entropy(logits, self.batch.labels)

    def backward(self) -> None:
        """The forward and backward passes: the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.forward().backward()

    def step(self) -> None:
        """A whole training step, by the training function itself."""
        self.train(self.model, self.batch, self.optimizers, (), self.recipe)

    def gflop(self, part: Callable[[], object]) -> float:
        """GFLOP of `part`: 10^9 operations in its matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter:
            part()
        return counter.get_total_flops() / 1e9

    def speed(self, repeats: int) -> dict:
        """GFLOP and seconds of the forward pass, the backward pass and the whole step.

        `peak_gflops` is the speed of matrix products, measured in turn with them.
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

    def operator_gflop(self) -> dict[str, float]:
        """GFLOP of a step's matrix products and convolutions, by torch operator."""
        with FlopCounterMode(display=False) as counter:
            self.step()
        library = "cudnn" if self.device.type == "cuda" else "mkldnn"
        found = {}
        for op, flop in counter.get_flop_counts()["Global"].items():
            name = str(op).replace("aten.", "aten::")
            if name == "aten::convolution":  # the profiler names the library that computes it
                name = f"aten::{library}_convolution"
            found[name] = flop / 1e9
        return found

    def operators(self, repeats: int) -> dict[str, float]:
        """Each torch operator's share of a step's time, largest first."""
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


def images_per_second(
    model: nn.Module,
    counts: Sequence[int],
    size: int,
    recipe: Recipe,
    device: torch.device,
    train: TrainEpoch,
    repeats: int,
) -> dict[str, dict[int, float]]:
    """Images per second in training and in prediction, by batch size."""
    trained, predicted = {}, {}
    for count in counts:
        step = Step(model, count, size, recipe, device, train)
        trained[count] = count / seconds(step.step, device, repeats)
        raw = torch.zeros(count, size, size, 3, dtype=torch.uint8, device=device)
        work = partial(predict, step.model, raw, 1, recipe.precision, count)
        predicted[count] = count / seconds(work, device, repeats)
    return {"trained_images_per_second": trained, "predicted_images_per_second": predicted}
