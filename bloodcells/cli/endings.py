"""Run a script to its end: errors in one line, exit codes, and the traceback of a defect."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from bloodcells import ROOT
from bloodcells.cli import signals
from bloodcells.errors import UserError, without_passwords

MENDABLE = {  # by the user: what is wrong with a disk, a permission or a name
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EIO), "use another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR), "name another file"),
}
# torch's words for a lack of memory: on Linux and Windows; with CUDA or on a Mac, and with cuBLAS
PROCESSOR_LACKS = ("can't allocate memory", "not enough memory")
DEVICE_LACKS = ("out of memory", "ALLOC_FAILED")
# and for a GPU that is too old or too new for torch or the driver; other failures are defects
DEVICE_UNFIT = ("no kernel image", "driver", "device is busy or unavailable", "no CUDA-capable")


def run_script(main: Callable[..., object], *args: object) -> None:
    """Call a script's main function; if it fails, exit with one line and a code.

    Exit codes: 2, a user's mistake; 70, a defect of the script, whose traceback is stored; 128 and
    the signal's number, an interruption (130: Ctrl-C); 141, the reader of standard output closed
    it. With BLOODCELLS_DEBUG=1, a defect ends in its traceback.
    """
    end_in_one_line()
    # medmnist's, where the home folder cannot be written; we say where the data file is looked for
    warnings.filterwarnings("ignore", "Failed to setup default root")
    if sys.stderr is None:  # closed by `2>&-`; messages would go among the results
        sys.stderr = open(os.devnull, "w", errors="replace")  # noqa: SIM115, ends with the process
    if isinstance(sys.stdout, TextIOWrapper):  # a file's name may not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            main(*args)
        except SystemExit:
            flush_output()
            raise
        flush_output()
    except (Exception, KeyboardInterrupt) as error:
        end_after(error)


def end_in_one_line() -> None:
    """From here on, interruptions and missing packages end the script in one line.

    That holds also while modules are still imported.
    """
    sys.excepthook = report_uncaught
    signals.act_like_ctrl_c()


def report_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report an interruption or a missing package in one line; anything else as Python does."""
    if isinstance(error, ModuleNotFoundError) and not os.environ.get("BLOODCELLS_DEBUG"):
        print(f"{Path(sys.argv[0]).name}: error: {missing_package(error)}", file=sys.stderr)
        os._exit(2)
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("\ninterrupted: no result was written", file=sys.stderr, flush=True)
    os._exit(signals.exit_code())


def end_after(error: BaseException) -> NoReturn:
    """End the script with the line and the code of an error that is being handled.

    Raises it again if it is a defect and BLOODCELLS_DEBUG is set.
    """
    if isinstance(error, UserError):
        fail(f"error: {error}", 2)
    if isinstance(error, KeyboardInterrupt):
        with suppress(OSError):  # the terminal may be gone
            print(f"\n{printable(str(error)) or 'interrupted'}", file=sys.stderr)
        end(signals.exit_code())
    if isinstance(error, BrokenPipeError):  # the reader of our output, such as `head`, closed it
        end(141)
    if advice := out_of_memory(error):
        fail(f"error: {advice}", 2)
    if isinstance(error, OSError) and error.errno in MENDABLE:
        what = f"{str(error.filename or 'a file')[:200]}: {error.strerror}"
        fail(f"error: {what}; {MENDABLE[error.errno]}", 2)
    if os.environ.get("BLOODCELLS_DEBUG"):
        raise error
    if is_of_the_device(error) and any(words in str(error) for words in DEVICE_UNFIT):
        reason = str(error).partition("\n")[0]
        advice = "update its driver, install a torch made for it, or pass --device cpu"
        fail(f"error: the GPU cannot be used: {reason}; {advice}", 2)
    if isinstance(error, ModuleNotFoundError):  # of a package that few commands need
        fail(f"error: {missing_package(error)}", 2)
    reason = f"{type(error).__name__}: {error}"[:300]
    fail(f"defect: {reason}{place_of(error)}; {stored_traceback()}", 70)


def as_typed(words: Sequence[str]) -> str:
    """A command as it is typed into a shell, quoted as the system's own needs it."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def missing_package(error: ModuleNotFoundError) -> str:
    """What is missing, and what to do."""
    return f"{error}; run make setup, and use its Python"


def stored_traceback() -> str:
    """What to do with the traceback of the exception being handled, once it is in a file.

    Passwords in addresses of databases are left out.
    """
    text = f"{as_typed(['python', *sys.argv])}\nPython {sys.version}\n\n{traceback.format_exc()}"
    try:
        number, path = tempfile.mkstemp(prefix="bloodcells-", suffix=".txt", text=True)
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(without_passwords(text))
    except OSError:
        return "set BLOODCELLS_DEBUG=1 to see the traceback"
    return f"unless you edited the code, please report it with the traceback, which is in {path}"


def place_of(error: BaseException) -> str:
    """Where in the project's own code it was raised, in brackets; empty if nowhere."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            return f" ({name}, line {frame.lineno}, in {frame.name})"
    return ""


def out_of_memory(error: BaseException) -> str | None:
    """What to do if the error is a lack of memory. Does not load torch to know its errors."""
    text = str(error) if isinstance(error, RuntimeError) else ""  # as all of torch's are
    if isinstance(error, MemoryError) or any(words in text for words in PROCESSOR_LACKS):
        return "out of memory; close other programs, or lower --batch-size if there is one"
    if any(words in text for words in DEVICE_LACKS) or type(error).__name__ == "OutOfMemoryError":
        return "the device is out of memory; lower --batch-size if there is one"
    return None


def is_of_the_device(error: BaseException) -> bool:
    """Whether a GPU failed."""
    return type(error).__name__ == "AcceleratorError"


def fail(message: str, code: int) -> NoReturn:
    """Print one line on standard error, and exit."""
    with suppress(OSError):  # the exit code counts where standard error is full
        line = printable(" ".join(without_passwords(message).split()))
        print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    end(code)


def end(code: int) -> NoReturn:
    """Flush the streams and exit. Output that cannot be written is discarded: at exit, Python would
    report it and change the code to 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def flush_output() -> None:
    """Write what is left of standard output. Raises `OSError` if it cannot be written."""
    if sys.stdout is not None:
        with closed_pipe_told():
            sys.stdout.flush()


@contextmanager
def closed_pipe_told() -> Iterator[None]:
    """While standard output is written: `BrokenPipeError` where Windows has EINVAL for it."""
    try:
        yield
    except OSError as error:
        if os.name == "nt" and error.errno == errno.EINVAL:
            raise BrokenPipeError from error
        raise


def printable(text: str, kept: str = "") -> str:
    """Text for the terminal: control characters escaped, but for those in `kept`.

    The bytes of a file name that is not UTF-8, which Python has as half a surrogate pair, stay.
    """
    return "".join(
        c if c.isprintable() or c in kept or "\udc80" <= c <= "\udcff" else repr(c)[1:-1]
        for c in text
    )
