"""How a script ends: one line, its exit code, and the trace of a defect."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from bloodcells import ROOT
from bloodcells.errors import without_passwords

MENDABLE = {  # by the user: what is wrong with a disk, a permission or a name
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EIO), "use another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR), "name another file"),
}


def stored_traceback() -> str:
    """What to do with the traceback of the exception being handled, once it is in a file.

    Passwords in addresses of databases are left out.
    """
    text = f"python {shlex.join(sys.argv)}\nPython {sys.version}\n\n{traceback.format_exc()}"
    try:
        number, path = tempfile.mkstemp(prefix="bloodcells-", suffix=".txt", text=True)
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(without_passwords(text))
    except OSError:
        return "set BLOODCELLS_DEBUG=1 to see the traceback"
    return f"unless you edited the code, please report it with the traceback, which is in {path}"


def place_of(error: Exception) -> str:
    """Where in the project's own code it was raised, in brackets; empty if nowhere."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            return f" ({name}, line {frame.lineno}, in {frame.name})"
    return ""


def out_of_memory(error: Exception) -> str | None:
    """What to do if the error is a lack of memory. Does not load torch to know its errors."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch's on a CPU
        return "out of memory; close other programs, or lower --batch-size if there is one"
    if type(error).__name__ == "OutOfMemoryError":  # of a GPU
        return "the device is out of memory; lower --batch-size if there is one"
    return None


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
        sys.stdout.flush()


def printable(text: str, kept: str = "") -> str:
    """Text for the terminal: control characters escaped, but for those in `kept`.

    The bytes of a file name that is not UTF-8, which Python has as half a surrogate pair, stay.
    """
    return "".join(
        c if c.isprintable() or c in kept or "\udc80" <= c <= "\udcff" else repr(c)[1:-1]
        for c in text
    )
