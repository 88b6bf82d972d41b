"""Which code made a result, and whether that code is committed.

The committed code is that of the last commit, whatever the index holds. Where git is unavailable,
as in a ZIP download, it is known from the list that report.py writes to plots/.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bloodcells import ROOT
from bloodcells.tracking.code_hash import combined, different, digest, file_hash, hashes
from bloodcells.tracking.files import IDENTITY, read_entry

RESULTS = ("metrics.json", "ablation.json", "bench.json", "audit.json")  # results files
ENTRY = {"script": str, "edited": list, "files": dict}  # what `code_entry` checks
TABLE, TABLE_READER = (f"bloodcells/data/photographs.{end}" for end in ("csv.gz", "py"))
LIST = "code.json"  # in plots/: the hashes of committed code by script, and of presets by path


class Head(NamedTuple):
    """The last commit; without git, None and no files."""

    commit: str | None
    blobs: dict[str, str]  # the hashes of its files' contents, by path


@dataclass(frozen=True)
class Code:
    """The code of a script as it is now, and as committed: hashes by path."""

    script: str
    commit: str | None  # the last one; None without git
    files: dict[str, str]
    committed: dict[str, str]  # empty if unknown
    others: dict[str, str]  # other edited inputs: presets of .config/, results

    @property
    def hash(self) -> str:
        """One hash of all files."""
        return combined(self.files)

    @property
    def edited(self) -> list[str]:
        """The files and other inputs that differ from the committed ones."""
        return [*different(self.files, self.committed), *self.others]

    def describe(self) -> dict:
        """The `code` entry of a results file."""
        return {
            "script": self.script,
            "commit": self.commit,
            "hash": self.hash,
            "edited": self.edited,
            "files": self.files,
        }

    def folder_name(self, name: str) -> str:
        """The name of a folder for results of this code; edited code gets one of its own."""
        if not self.edited:
            return name
        return f"{name}-edited-{combined(self.files | self.others)[:6]}"

    def made_of(self, runs: dict[str, dict | None]) -> Code:
        """This code, for a study of `runs`: it counts as edited if the code of any of them was.

        `runs` holds the `code` entries of their results, by name.
        """
        edited = {
            f"{name}: {path}": code["hash"]
            for name, code in runs.items()
            if code
            for path in code["edited"]
        }
        return replace(self, others=self.others | edited)


@functools.cache
def code_of(script: Path, presets: tuple[Path, ...] = ()) -> Code:
    """The code of a script, and which of the presets that it reads are edited."""
    name = relative(script)
    files = hashes(name, on_disk)
    committed = committed_code(name) or {  # a new script; what it imports may be committed
        path: file_hash(content) for path in files if (content := at_head(path))
    }
    return Code(name, head().commit, files, committed, edited_presets(presets) | edited_data(files))


def edited_data(files: Collection[str]) -> dict[str, str]:
    """The hash of the table of photographs, if it is edited and among these files is its reader."""
    kept, found = at_head(TABLE), on_disk(TABLE)
    if TABLE_READER not in files or kept is None or kept == found:
        return {}
    return {TABLE: digest(found or b"")}


def edited_presets(paths: tuple[Path, ...]) -> dict[str, str]:
    """The hashes of those presets that differ from the committed ones, by path."""
    edited = {}
    for path in map(relative, paths):  # elsewhere, a committed one's name is that of a copy
        preset = Path(path).name
        kept = committed_preset(path) or committed_preset(f".config/{preset}")
        found = settings_hash(on_disk(path))
        if kept not in (None, found):
            edited[preset if Path(path).is_absolute() else path] = found
    return edited


def committed_preset(path: str) -> str | None:
    """The hash of a committed preset's settings; None if there is no such preset, or unknown."""
    if head().commit is None:
        return listed(path)
    content = at_head(path)
    return None if content is None else settings_hash(content)


@functools.cache
def committed_code(script: str) -> dict[str, str]:
    """The hashes of a script's committed code; empty if unknown."""
    known = hashes(script, at_head) if head().commit else listed(script)
    return known if isinstance(known, dict) else {}


def relative(path: Path) -> str:
    """A path relative to the project's folder; absolute outside it."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


@functools.cache
def on_disk(path: str) -> bytes | None:
    """A file's content as it is now; None if there is no such file."""
    file = ROOT / path
    return file.read_bytes() if file.is_file() else None


@functools.cache
def head() -> Head:
    """The last commit."""
    if not (ROOT / ".git").exists():  # or git would use an enclosing repository
        return Head(None, {})
    commit = git("rev-parse", "--short=12", "HEAD")
    tree = git("ls-tree", "-r", "-z", "HEAD")
    if not commit or not tree:
        return Head(None, {})
    rows = (row.split("\t", 1) for row in os.fsdecode(tree).split("\0") if row)
    return Head(commit.decode().strip(), {path: about.split()[2] for about, path in rows})


@functools.cache
def at_head(path: str) -> bytes | None:
    """A file's content in the last commit; None if it has no such file."""
    blob, here = head().blobs.get(path), on_disk(path)
    if blob is None:
        return None
    if here is not None and hashlib.sha1(b"blob %d\0" % len(here) + here).hexdigest() == blob:
        return here
    return git("cat-file", "blob", blob)


@functools.cache
def at_commit(commit: str, path: str) -> bytes | None:
    """A file's content in an earlier commit; None if unknown."""
    return git("cat-file", "blob", f"{commit}:{path}") if head().commit else None


def git(*arguments: str) -> bytes | None:
    """The output of a git command; None if it fails or git is missing."""
    command = ["git", "-C", str(ROOT), *arguments]
    others = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # as another repository's hook has them
    environment = {name: value for name, value in os.environ.items() if name not in others}
    try:
        done = subprocess.run(command, capture_output=True, env=environment)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def settings_hash(content: bytes | None) -> str:
    """The hash of a preset's settings; of its bytes if it is not valid TOML."""
    try:
        settings = tomllib.loads((content or b"").decode("utf-8-sig"))
        return digest(json.dumps(settings, sort_keys=True, default=str).encode())  # a date: as text
    except ValueError:
        return digest(content or b"")


def listed(name: str) -> Any:
    """What the list has of a script or a preset; None if it has nothing, or is no list."""
    return read_entry(ROOT / "plots" / LIST, name)


def code_entry(folder: Path) -> dict | None:
    """The `code` entry of the results in a folder; None if it is missing or unreadable."""
    for name in RESULTS:
        code = read_entry(folder / name, "code")
        if isinstance(code, dict) and all(isinstance(code.get(k), t) for k, t in ENTRY.items()):
            return code
    return None


def unfinished_script(folder: Path) -> str | None:
    """The script of the unfinished experiment in a folder; None if there is none, or no name."""
    script = read_entry(folder / IDENTITY, "script")
    return None if script is None else str(script)
