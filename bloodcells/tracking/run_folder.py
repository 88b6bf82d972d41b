"""A run folder: what a script writes under `plots/`, and how it is read back.

The results file, such as `metrics.json`, is moved in last: without it, the folder is not finished.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bloodcells.errors import UserError
from bloodcells.tracking import provenance
from bloodcells.tracking.atomic import EARLIER, SCRATCH, exchange, scratch_folder
from bloodcells.tracking.files import IDENTITY, read_entry, read_json, regular
from bloodcells.tracking.files import find as find  # for the scripts
from bloodcells.tracking.provenance import Code

FIGURES = (".png", ".pdf", ".svg")
KINDS = (  # names of what scripts write; a user's preset, of another name, may lie beside
    *(f"*{suffix}" for suffix in (*FIGURES, ".csv", ".json", ".npz", ".safetensors")),
    *("config.toml", "best.toml"),
)
NEEDED = {"dataset", "model", "config", "test", "leaks_test_images", "code"}  # of metrics.json
UNFINISHED = (IDENTITY, f"{SCRATCH}*", f"{EARLIER}*")  # of stopped scripts


class HeldOut(NamedTuple):
    """The held-out images that all models share; of folds, all, each by its fold's model."""

    labels: np.ndarray  # int64 (N,)
    probabilities: np.ndarray  # float32 (models, N, classes); of folds, (1, N, classes)


@dataclass(frozen=True)
class SavedRun:
    """A finished experiment, read from its run folder."""

    folder: Path
    metrics: dict
    labels: np.ndarray  # int64 (N,)
    probabilities: np.ndarray  # float32 (models, N, classes)
    held_out: HeldOut | None = None  # None if as published, or if nothing is held out


def prepare(
    folder: Path, code: Code | None = None, flag: str = "--output", script: str | None = None
) -> None:
    """Create the folder and check that results can be written, before hours are spent on them.

    Raises `UserError` if they cannot, if results of edited `code` would replace results of
    committed code, or, given a `script`, if the folder holds anything like results but its own.
    """
    with writing_to(folder, flag):
        if script:
            refuse_foreign(folder, script, flag)
        if code and code.edited:
            refuse_replacing_committed(folder, code, flag)
            since = origin(code.commit)
            print(f"edited since {since}: {named(code.edited)}; results go to {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def refuse_foreign(folder: Path, script: str, flag: str) -> None:
    """Raise `UserError` if the folder holds results, or what may be some, not of `script`."""
    unfinished = any(any(folder.glob(name)) for name in UNFINISHED)
    kept, begun = provenance.code_entry(folder), provenance.unfinished_script(folder)
    if kept and kept["script"] != script:
        raise UserError(
            f"{flag} {folder}: it holds results of {kept['script']}; pass another folder"
        )
    if begun not in (None, script):
        raise UserError(
            f"{flag} {folder}: it holds an unfinished run of {begun}; pass another folder"
        )
    if not (kept or unfinished):
        refuse_results(folder, flag, f"but no readable results of {script}")


def refuse_results(folder: Path, flag: str, but: str) -> None:
    """Raise `UserError` if the folder holds a file with a name like those that scripts write."""
    for path in sorted(folder.glob("[!.]*")):
        if any(fnmatch(path.name.lower(), kind) for kind in KINDS):
            raise UserError(
                f"{flag} {folder}: it holds {path.name}, {but}; pass an empty folder, or delete "
                "what is there"
            )


def refuse_replacing_committed(folder: Path, code: Code, flag: str) -> None:
    """Raise `UserError` if the folder holds results of committed code, or of unknown code."""
    kept = provenance.code_entry(folder)
    found = any((folder / name).exists() for name in provenance.RESULTS)
    if found and not (kept and kept["edited"]):
        raise UserError(
            f"{flag} {folder}: it holds results of committed code, and these files are edited: "
            f"{named(code.edited)}; pass another folder, or omit the flag"
        )


def origin(commit: str | None) -> str:
    """What code is compared with, in words."""
    return f"commit {commit}" if commit else "the results that came with it"


def named(files: Sequence[str]) -> str:
    """File names as text: at most four, and how many more there are."""
    more = f" and {len(files) - 4} more" if len(files) > 4 else ""
    return ", ".join(files[:4]) + more


@contextmanager
def writing_to(folder: Path, flag: str = "--output") -> Iterator[None]:
    """Within the block, an `OSError` is a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{flag} {folder}: cannot write there: {error.strerror or error}; fix that, or pass "
            "another folder"
        ) from error


def write(folder: Path, fill: Callable[[Path], None], last: str, stale: Sequence[str] = ()) -> None:
    """Let `fill` write its files into a scratch folder, then move them all into `folder`.

    If that fails or is interrupted, `folder` is as before; if it is killed between the moves, it
    lacks the file `last`, which marks a finished experiment. Files that `fill` does not write are
    kept, except earlier ones that match a pattern of `stale`, and the same figures in other formats
    where `last` is a results file. A pattern without a suffix is that of a figure in any format.
    Raises `UserError` if writing fails.
    """
    try:
        with scratch_folder(folder) as new:
            fill(new)
            names = sorted(os.listdir(new), key=lambda name: (name == last, name))
            for name in names:
                with (new / name).open("rb+") as file:
                    os.fsync(file.fileno())
            patterns = list(stale)
            if Path(last).suffix not in FIGURES:
                drawn = (Path(name) for name in names if Path(name).suffix in FIGURES)
                patterns += [glob.escape(path.stem) for path in drawn]
            exchange(folder, new, names, earlier(folder, names, patterns))
    except OSError as error:
        reason = f"cannot write results: {error.strerror or error}"
        raise UserError(f"{folder}: {reason}") from error


def earlier(folder: Path, names: Sequence[str], patterns: Sequence[str]) -> list[Path]:
    """What `write` replaces: what has these names, and files that match the patterns; sorted."""
    found = {path for name in names if os.path.lexists(path := folder / name)}
    for pattern in patterns:
        for suffix in FIGURES if "." not in pattern else [""]:
            files = folder.glob(pattern + suffix)
            found |= {path for path in files if path.is_symlink() or path.is_file()}
    return sorted(found)


def write_json(path: Path, content: object) -> None:
    """Write a value as indented JSON; NaN and infinite numbers raise `ValueError`."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of a finished experiment's history.csv. Raises `UserError`."""
    path = folder / "history.csv"
    try:
        with regular(path).open(encoding="utf-8", newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def write_toml(path: Path, settings: dict) -> None:
    """Write settings as a preset: JSON strings, numbers, booleans and lists are valid TOML.

    A setting of None, from a flag without default that was not given, is left out.
    """
    lines = [
        f"{key.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in settings.items()
        if value is not None
    ]
    text = "\n".join(lines).replace("\x7f", "\\u007f")
    path.write_text(f"{text}\n", encoding="utf-8", errors="replace")  # of names that are not UTF-8


def write_csv(path: Path, rows: Sequence[Sequence]) -> None:
    """Write rows as CSV; the bytes of a file name that is not UTF-8 stay as they are."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{csv_line(row)}\n" for row in rows)


def csv_line(values: Iterable) -> str:
    """One line of CSV, without its line break."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)  # so that \r and \n are quoted
    return line.getvalue().removesuffix("\r\n")


def is_training(folder: Path) -> bool:
    """Whether the results in a folder are of trained models, not of a study of them."""
    return read_entry(folder / "metrics.json", "leaks_test_images") is not None


def read(folder: Path) -> SavedRun:
    """Read a finished experiment. Raises `UserError` if it is missing or damaged."""
    try:
        run = read_json(folder / "metrics.json")
        if "code" in run and not is_training(folder):
            raise UserError(f"{folder}: of {run['code']['script']}, no training experiment")
        with np.load(regular(folder / "predictions.npz"), allow_pickle=False) as arrays:
            held_out = None
            if "val_probabilities" in arrays:
                held_out = HeldOut(arrays["val_labels"], arrays["val_probabilities"])
            saved = SavedRun(folder, run, arrays["labels"], arrays["probabilities"], held_out)
        if saved.probabilities.ndim != 3 or not np.isfinite(saved.probabilities).all():
            raise ValueError("predictions.npz holds no probabilities")
        if (missing := NEEDED - run.keys()) == {"code"}:
            raise UserError(f"{folder}: made by version 1.0.0, which recorded no code: run it anew")
        if missing:
            raise ValueError(f"metrics.json lacks {', '.join(sorted(missing))}")
        return saved
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no finished experiment: {error.filename} is missing") from error
    except NotADirectoryError as error:
        raise UserError(f"{folder}: a file; name the run folder of an experiment") from error
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged archive or text raises one of many kinds
        raise UserError(f"{folder}: the results are damaged: {error}") from error


def weights_md5(folder: Path) -> str:
    """One MD5 of all weights in a run folder, a checksum only."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in sorted(folder.glob("weights-*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
