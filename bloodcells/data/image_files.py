"""A user's image files, found by paths, folders and globs."""

from __future__ import annotations

import glob
import os
import sys

from bloodcells.cli.endings import printable
from bloodcells.errors import UserError

ARRAYS = (".npy", ".npz")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *ARRAYS,
)
NOT_READ = (  # other formats of images
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".ppm", ".pgm", ".dng", ".dcm"),
    *(".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".lif", ".nd2", ".vsi", ".oib", ".oif"),
)
STANDARD_INPUT = "-"


def find(arguments: list[str]) -> list[str]:
    """The files named by paths, folders (searched recursively) and globs, in order, once each.

    Raises `UserError` for an argument that matches nothing.
    """
    found: dict[str, str] = {}  # by their absolute paths, in order
    for argument in arguments:
        names = named(argument)
        if not names:
            raise UserError(f"{argument}: no such file or folder, and no file matches it")
        files = [x for name in names for x in (in_folder(name) if os.path.isdir(name) else [name])]
        if not files:
            raise UserError(f"{argument}: no images there ({' '.join(SUFFIXES)})")
        for file in files:
            found.setdefault(file if file == STANDARD_INPUT else os.path.abspath(file), file)
    return list(found.values())


def named(argument: str) -> list[str]:
    """The paths that an argument names: itself if there is such a path, else what matches it."""
    if argument == STANDARD_INPUT or os.path.lexists(argument):
        return [argument]
    return sorted(glob.glob(argument, recursive=True))


def in_folder(folder: str) -> list[str]:
    """The image files under a folder, sorted, without hidden ones. Raises `UserError`.

    Links to folders are not followed, but named as files are, so that they are reported. Says so if
    there are images in other formats.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}")

    names, others = [], []
    try:
        for parent, folders, files in os.walk(folder, onerror=refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = (os.path.join(parent, name) for name in folders)
            names += [path for path in paths if os.path.islink(path)]
            images = (f for f in sorted(files) if f.lower().endswith(SUFFIXES) and f[0] != ".")
            names += [os.path.join(parent, name) for name in images]
            others += [f for f in files if f.lower().endswith(NOT_READ) and f[0] != "."]
    except RecursionError as error:
        raise UserError(f"{folder}: its folders are nested too deeply") from error
    if others:
        kinds = " ".join(sorted({os.path.splitext(name)[1].lower() for name in others}))
        print(
            f"{printable(folder)}: without {len(others)} image{'s' * (len(others) > 1)} in formats "
            f"that are not read ({kinds}): save them as PNG or TIFF",
            file=sys.stderr,
        )
    return names
