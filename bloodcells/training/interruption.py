"""Ctrl-C, SIGTERM, SIGHUP during training: the first stops after the batch, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from bloodcells.cli import signals
from bloodcells.training import distributed

MESSAGE = b"\nstopping after this batch; again to stop at once\n"


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; the finished epochs are kept."""


_requested = False


@contextmanager
def ending_after_the_batch() -> Iterator[None]:
    """Within the block, the first signal makes `stop_if_asked` raise; the second stops at once."""
    global _requested

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        signals.note(number)
        if _requested:
            raise KeyboardInterrupt
        _requested = True
        os.write(2, MESSAGE)  # print is not safe in a signal handler

    if threading.current_thread() is not threading.main_thread():  # only it gets signals
        yield
        return
    kinds = (signal.SIGINT, *signals.ENDING)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    for kind, handler in before.items():
        if handler is not signal.SIG_IGN:  # background jobs ignore Ctrl-C, nohup ignores SIGHUP
            signal.signal(kind, request)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        _requested = False


def stop_if_asked(device: torch.device) -> None:
    """Raise `Interrupted` if this process, or another of the group, was asked to stop."""
    if distributed.summed([float(_requested)], device)[0]:
        raise Interrupted
