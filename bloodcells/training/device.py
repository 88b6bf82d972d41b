"""The device and the precision that a model computes with, and the machine's speed."""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bloodcells.errors import UserError
from bloodcells.training.threads import use_threads

CPU_SIDE, GPU_SIDE = 1536, 4096  # of the matrices in the speed measurement


def choose_device(name: str, threads: int | None = None) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU. Raises `UserError`.

    The CPU's work is done in `threads` threads; None means as many as this process may use.
    """
    use_threads(threads)
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise UserError(f"--device {name}: this machine or this build of torch has none; use cpu")
    torch.backends.cudnn.allow_tf32 = False  # convolutions in float32, like matrix products
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """Either "float32" or "bfloat16"; "auto" is bfloat16 where the device computes it natively."""
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bfloat16" if native else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context manager in which a model computes in that precision.

    Raises `ValueError` unless it is "float32" or "bfloat16", such as for "auto".
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"no precision {precision!r}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step; another C library is left as it is.

    By default, glibc returns large blocks to the system and pays for new pages in every step, which
    took a third of the training time of the paper's CNN.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3  # constants of malloc.h
        # older releases accept at most 32 MiB; if that fails too, the trim threshold stays
        if mallopt(m_mmap_threshold, 2**30) or mallopt(m_mmap_threshold, 2**25):
            mallopt(m_trim_threshold, 2**31 - 1)


def seconds_in_turn(
    works: Sequence[Callable[[], object]], device: torch.device, repeats: int, limit: float = 5.0
) -> list[float]:
    """Median seconds of wall time of each of `works`, over `repeats` rounds after an untimed one.

    Each round runs every work once, so drift in the machine's speed hardly affects their ratios.
    After `limit` seconds in all, no further round begins, but at least one is timed.
    """

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if device.type != "cpu":  # a GPU returns before the work is done
            getattr(torch, device.type).synchronize()
        return time.perf_counter() - start

    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < 2 or (len(rounds) <= repeats and time.perf_counter() - began < limit):
        rounds.append([timed(work) for work in works])
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def matrix_product(precision: str, device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """A product of square matrices, which comes close to a machine's peak speed, and its GFLOP.

    Torch's global random state is left unchanged, so that training can continue after it.
    """
    side = GPU_SIDE if device.type == "cuda" else CPU_SIDE
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.rand(side, side, device=device, generator=generator).to(getattr(torch, precision))
        for _ in range(2)
    )
    return partial(torch.matmul, left, right), 2 * side**3 / 1e9


def matrix_product_gflops(precision: str, device: torch.device, repeats: int) -> float:
    """The speed of `matrix_product` in GFLOP/s."""
    product, gflop = matrix_product(precision, device)
    return gflop / seconds_in_turn([product], device, repeats)[0]
