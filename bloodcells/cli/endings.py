"""How a script ends where something fails: what the user can mend, and the trace of a defect."""

from __future__ import annotations

import errno
import shlex
import sys
import tempfile
import traceback

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
    return f"please report it with the traceback, which is in {path}"
