"""Ctrl-C, SIGTERM, SIGHUP during training: the first stops after the batch, the second at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import torch

from bloodcells.cli import signals
from bloodcells.cli.endings import as_typed
from bloodcells.tracking.files import IDENTITY
from bloodcells.training import distributed

MESSAGE = b"\nstopping after this batch; again to stop at once\n"


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; the finished epochs are kept."""


_requested = False


@contextmanager
def ending_after_the_batch() -> Iterator[None]:
    """Within the block, the first signal makes `stop_if_asked` raise; the second stops at once.

    A signal after the last `stop_if_asked` raises `Interrupted` at the end of the block. With
    several processes it is ignored, since the others do not know of it.
    """
    global _requested

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        signals.note(number)
        if _requested:
            raise KeyboardInterrupt
        _requested = True
        with suppress(OSError):  # the terminal may be gone
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
        if _requested and distributed.size() == 1:  # it came after the last batch
            raise Interrupted
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        _requested = False


def stop_if_asked() -> None:
    """Raise `Interrupted` if this process, or another of the group, was asked to stop.

    The processes ask each other by way of the CPU, so that no GPU's work is awaited.
    """
    if distributed.summed([float(_requested)], torch.device("cpu"))[0]:
        raise Interrupted


def resuming_command(args: argparse.Namespace, alone: bool = False) -> str:
    """The command that resumes this one; `alone` drops --only-fold and --only-seed."""
    if distributed.size() > 1:
        return "the same torchrun command with --resume, without --overwrite"
    dropped = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--resume", "--overwrite"):
        dropped.add_argument(flag, action="store_true")
    for flag in ("--only-fold", "--only-seed") if alone else ():
        dropped.add_argument(flag)
    given, kept = dropped.parse_known_args()
    given_output = any(word.split("=")[0] == "--output" for word in kept)
    if args.code.edited and not given_output:  # the default changes with the next edit
        kept += ["--output", str(args.output)]
    # before the experiment has begun, --resume would find the earlier results
    begun = (args.output / IDENTITY).exists()
    last = "--overwrite" if given.overwrite and not begun else "--resume"
    return as_typed(["python", sys.argv[0], *kept, last])


@contextmanager
def interruptions_explained(args: argparse.Namespace) -> Iterator[None]:
    """Within the block, an interruption says how to resume."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped; resume with: {resuming_command(args)}") from error
