"""Signals that end a script: one line, and the exit code 128 + the signal's number."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_latest = int(signal.SIGINT)


def note(number: int) -> None:
    """Keep the number of a signal that arrived, for the exit code."""
    global _latest
    _latest = number


def exit_code() -> int:
    """The exit code after an interruption: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + _latest


def end_in_one_line() -> None:
    """From here on, SIGTERM and SIGHUP act like Ctrl-C, also while modules are still imported."""
    sys.excepthook = report
    note(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():  # only it gets signals
        return
    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:  # not under nohup, which ignores SIGHUP
            signal.signal(number, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal as Python handles Ctrl-C."""
    note(number)
    raise KeyboardInterrupt


def advice(error: ModuleNotFoundError) -> str:
    """What is missing, and what to do."""
    return f"{error}; run make setup, and use its Python"


def report(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Report an interruption or a missing package in one line; anything else as Python does."""
    if isinstance(error, ModuleNotFoundError) and not os.environ.get("BLOODCELLS_DEBUG"):
        name = os.path.basename(sys.argv[0])
        print(f"{name}: error: {advice(error)}", file=sys.stderr)
        os._exit(2)
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    print("\ninterrupted: no result was written", file=sys.stderr, flush=True)
    os._exit(exit_code())
