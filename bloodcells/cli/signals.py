"""Signals that end a script: one line, and the exit code 128 + the signal's number."""

from __future__ import annotations

import signal
import threading
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_latest = int(signal.SIGINT)


def note(number: int) -> None:
    """Keep the number of a signal that arrived, for the exit code."""
    global _latest
    _latest = number


def exit_code() -> int:
    """The exit code after an interruption: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + _latest


def act_like_ctrl_c() -> None:
    """From here on, SIGTERM and SIGHUP act like Ctrl-C."""
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
