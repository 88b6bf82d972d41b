"""Which code made a result: a hash of what determines the numbers, and whether it is committed.

What determines the numbers is the script with all that it imports of ours, from file to file, but
for what only reads the command line, stops and resumes, keeps run folders, draws or writes. Of each
file the syntax tree is hashed, without docstrings and messages: comments, formatting and wording do
not count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bloodcells import ROOT

LEFT_OUT = (  # files and folders that do not determine the numbers
    *("bloodcells/cli/", "bloodcells/tracking/", "bloodcells/reporting/"),  # what reads and writes
    *("bloodcells/errors.py", "bloodcells/data/download.py"),  # whose file's MD5 is checked
    *("bloodcells/training/checkpoint.py", "bloodcells/training/interruption.py"),
    "bloodcells/training/session.py",  # with the two above: what stops and resumes
)
COUNTED = ("bloodcells/cli/recipe.py",)  # does, among these
MESSAGES = {"print", "UserError", "DivergedError", "BadImageError"}  # whose words do not count
RESULTS = ("metrics.json", "ablation.json", "bench.json", "audit.json")  # of a run folder

Read = Callable[[str], str | None]  # the text of a file, by its path from the project's folder


@dataclass(frozen=True)
class Code:
    """The code of a script as it is now, beside the committed one."""

    script: str
    commit: str | None  # the last one; None outside a git checkout
    files: dict[str, str]  # path from the project's folder: hash
    committed: dict[str, str]  # the same of the committed code; empty where it is not known
    presets: dict[str, str]  # the project's own presets that are edited, the same way

    @property
    def hash(self) -> str:
        return combined(self.files)

    @property
    def edited(self) -> list[str]:
        """The files that differ from the committed ones."""
        return [*different(self.files, self.committed), *self.presets]

    def describe(self) -> dict:
        """The `code` entry of a file of results."""
        return {
            "script": self.script,
            "commit": self.commit,
            "hash": self.hash,
            "edited": self.edited,
            "files": self.files,
        }

    def named(self, name: str) -> str:
        """The name of a folder for results of this code: another one if it is edited."""
        mark = combined(self.files | self.presets)[:6]
        return f"{name}-edited-{mark}" if self.edited else name


def combined(files: dict[str, str]) -> str:
    """One hash of several files'."""
    return digest(json.dumps(files, sort_keys=True))


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The paths at which two sets of hashes differ."""
    return sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))


@functools.cache
def code_of(script: Path, presets: tuple[Path, ...] = ()) -> Code:
    """The code of a script, and which of the presets that it reads are edited."""
    name = relative(script)
    files = hashes(name, on_disk)
    commit = git("rev-parse", "--short=12", "HEAD").strip() if (ROOT / ".git").exists() else ""
    if not commit:
        return Code(name, None, files, known_code(name, files), {})
    changed = changed_files()
    if not changed:
        return Code(name, commit, files, files, {})

    @functools.cache
    def at_head(path: str) -> str | None:
        return git("show", f"HEAD:{path}") or None if path in changed else on_disk(path)

    # a preset that is new is no edit: its runs have a name of their own
    own = [path for path in map(relative, presets) if path in changed and at_head(path)]
    edited = {path: digest(on_disk(path) or "") for path in own}
    committed = hashes(name, at_head)
    if not committed:  # a new script, perhaps a copy of ours: what it imports may be committed
        texts = {path: at_head(path) for path in files}
        committed = {path: hash_of(ast.parse(text)) for path, text in texts.items() if text}
    return Code(name, commit, files, committed, edited)


def relative(path: Path) -> str:
    """A path from the project's folder, or as it is outside of it."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def on_disk(path: str) -> str | None:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


def git(*arguments: str) -> str:
    """What a git command prints; empty if it fails or there is no git."""
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def changed_files() -> set[str]:
    """Python files and presets that differ from the last commit, new ones among them."""
    status = git("status", "--porcelain", "-z", "--untracked-files=all", "--", "*.py", ".config")
    parts = iter(status.split("\0"))
    changed = set()
    for part in parts:
        if part:
            changed.add(part[3:])
            if part[0] in "RC":  # the next one is the old name
                changed.add(next(parts))
    return changed


def hashes(script: str, read: Read) -> dict[str, str]:
    """The hash of each file that determines a script's numbers."""
    found: dict[str, str] = {}
    waiting, seen = [script], set()
    while waiting:
        path = waiting.pop()
        text = read(path)
        if path in seen or text is None:
            continue
        seen.add(path)
        tree = ast.parse(text)
        waiting += imported(tree, path, read)
        if path in COUNTED or not path.startswith(LEFT_OUT):
            found[path] = hash_of(tree)
    return dict(sorted(found.items()))


def hash_of(tree: ast.Module) -> str:
    return digest("".join(dumped(tree)))


def imported(tree: ast.Module, path: str, read: Read) -> Iterator[str]:
    """The files of ours that a module names in its imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = Path(path).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    for name in names:
        file = name.replace(".", "/")
        for candidate in (f"{file}.py", f"{file}/__init__.py"):
            if read(candidate) is not None:
                yield candidate


def dumped(node: object) -> Iterator[str]:
    """A syntax tree as text, the same under every Python; see the module's docstring."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if name in ("ctx", "kind", "type_comment") or value is None or value == []:
                continue
            if name == "body" and isinstance(value, list) and is_docstring(value[0]):
                value = value[1:]
            if name == "args" and isinstance(node, ast.Call) and called(node) in MESSAGES:
                continue
            if name == "keywords":
                value = [keyword for keyword in value if keyword.arg != "help"]
            yield f" {name}="
            yield from dumped(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from dumped(item)
        yield "]"
    else:
        yield repr(node)


def is_docstring(node: ast.AST) -> bool:
    value = getattr(node, "value", None)
    return isinstance(node, ast.Expr) and isinstance(getattr(value, "value", None), str)


def called(node: ast.Call) -> str | None:
    """The last name of what is called."""
    return getattr(node.func, "id", getattr(node.func, "attr", None))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def recorded(folder: Path) -> dict | None:
    """The `code` entry of a run folder's results; None where there is none that can be read."""
    for name in RESULTS:
        try:
            return json.loads((folder / name).read_text(encoding="utf-8"))["code"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def known_code(script: str, files: dict[str, str]) -> dict[str, str]:
    """The committed code of a script where there is no git: as the results under plots/ tell it.

    `files` themselves if a result was made by just these; else those of a result, or none.
    """
    records = [recorded(folder) for folder in sorted((ROOT / "plots").glob("*/"))]
    known = [r["files"] for r in records if r and r["script"] == script and not r["edited"]]
    return files if files in known else next(iter(known), {})
