"""A hash of the code that determines a script's numbers.

That code is the script and the project's files that it imports, directly or indirectly, except
those that only parse the command line, refuse, download, begin and end processes, resume, keep run
folders, draw or write. Each file is hashed as its syntax tree without docstrings, help texts,
annotations and the messages of the calls in `MESSAGES`, so that comments, formatting, such wording
and types do not count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

LEFT_OUT = (  # files and folders that do not determine the numbers
    *("bloodcells/cli/", "bloodcells/tracking/", "bloodcells/reporting/"),
    *("bloodcells/errors.py", "bloodcells/data/download.py"),  # the download's MD5 is checked
    *("bloodcells/training/checkpoint.py", "bloodcells/training/checkpoint_folder.py"),
    *("bloodcells/training/interruption.py", "bloodcells/training/locks.py"),
    *("bloodcells/training/progress.py", "bloodcells/training/refusals.py"),
    *("bloodcells/training/identity.py", "bloodcells/training/process_group.py"),
    *("bloodcells/training/session.py", "bloodcells/training/tensorboard.py"),
    "bloodcells/training/threads.py",
)
COUNTED = ("bloodcells/cli/flags.py", "bloodcells/cli/recipe.py")  # of these, the files that do
ONLY_WITH = {  # files, and the setting without which, or with 0 of which, each does nothing
    "bloodcells/evaluation/distillation.py": "teacher",
    "bloodcells/training/domain_randomisation.py": "domain_randomisation",
    "bloodcells/training/distributed.py": "torchrun",  # no flag, but whether torchrun was used
    "bloodcells/data/class_names.py": "elsewhere",  # whether another laboratory's images are read
    "bloodcells/data/image_files.py": "elsewhere",
    "bloodcells/data/labelled_folders.py": "elsewhere",
    "bloodcells/data/slides.py": "elsewhere",
    "bloodcells/data/user_arrays.py": "elsewhere",
    "bloodcells/data/user_images.py": "elsewhere",
    # by model_release.py, finetune.py, or with --elsewhere
    "bloodcells/evaluation/balanced_accuracy.py": "scored_like_elsewhere",
    "bloodcells/evaluation/elsewhere.py": "scored_like_elsewhere",
}
REGISTRY = ("NETWORKS", "MODELS")  # of models.py: all its networks
NO_CODE = ("annotation", "returns", "ctx", "kind", "type_comment")  # tree fields that do not count
TYPING = ("typing", "collections.abc", "__future__")  # imported only for annotations
MESSAGES = {"print", "UserError", "DivergedError", "BadImageError"}  # their arguments do not count

Read = Callable[[str], bytes | None]  # a file's content, by its path from the project, or absolute


def hashes(script: str, read: Read) -> dict[str, str]:
    """The hash of each file that determines a script's numbers, by path; empty without the script.

    The imports of a script outside the project's folder are first looked up beside it, as Python
    does.
    """
    found: dict[str, str] = {}
    waiting, seen = [script], set()
    folders = (f"{Path(script).parent.as_posix()}/", "") if Path(script).is_absolute() else ("",)
    while waiting:
        path = waiting.pop()
        content = read(path)
        if path in seen or content is None:
            continue
        seen.add(path)
        if path in COUNTED or not path.startswith(LEFT_OUT):
            found[path] = file_hash(content)
        waiting += imported_files(imports(content, path), folders, read)
    return dict(sorted(found.items()))


@functools.cache  # most files are on disk as they were committed
def file_hash(content: bytes) -> str:
    """The hash of a Python file's syntax tree; of its bytes if it is not valid Python."""
    tree = parsed(content)
    if tree is None:
        return digest(content)
    return digest("".join(dumped(WithoutTypes().visit(tree))).encode())


def combined(files: dict[str, str]) -> str:
    """One hash of the hashes of several files."""
    return digest(json.dumps(files, sort_keys=True).encode())


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The paths at which two sets of hashes differ."""
    return sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))


def idle(configs: Collection[Mapping[str, object]], varied: Collection[str]) -> set[str]:
    """The files of `ONLY_WITH` whose setting is off in all `configs`, and not `varied`."""
    return {
        path
        for path, setting in ONLY_WITH.items()
        if setting not in varied and not any(config.get(setting) for config in configs)
    }


def network_parts(content: bytes, networks: Collection[str]) -> dict[str, str]:
    """The code of models.py by the names that it defines, without the classes of other networks.

    What defines nothing is under the name "". The list of all networks is left out.
    """
    body = (parsed(content) or ast.Module([], [])).body
    statements = {name: node for node in body for name in defined(node)}
    used, waiting = set(), [*networks]
    while waiting:
        name = waiting.pop()
        if name in statements and name not in used:
            used.add(name)
            nodes = ast.walk(statements[name])
            waiting += [node.id for node in nodes if isinstance(node, ast.Name)]
    parts: dict[str, str] = {}
    for node in body:
        if not (isinstance(node, ast.ClassDef) and node.name not in used):
            code = "".join(dumped(WithoutTypes().visit(ast.Module([node], []))))
            parts |= {name: parts.get(name, "") + code for name in defined(node) or [""]}
    return {name: code for name, code in parts.items() if name not in REGISTRY}


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines, if that is all it does."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [one.id for one in targets if isinstance(one, ast.Name)]


def classes(content: bytes) -> set[str]:
    """The names of a module's classes."""
    body = (parsed(content) or ast.Module([], [])).body
    return {node.name for node in body if isinstance(node, ast.ClassDef)}


def digest(content: bytes) -> str:
    """The first 12 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]


def parsed(content: bytes) -> ast.Module | None:
    """The syntax tree; None if the content is not valid Python."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):  # ValueError: null bytes
        return None


@functools.cache
def imports(content: bytes, path: str) -> tuple[str, ...]:
    """What a module imports by its full name; of `from a import b`, both `a` and `a.b`."""
    names = []
    for node in ast.walk(parsed(content) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = Path(path).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def imported_files(names: Sequence[str], folders: tuple[str, ...], read: Read) -> Iterator[str]:
    """The project's files among these modules."""
    for name in names:
        file = name.replace(".", "/")
        places = (f"{folder}{file}{end}" for folder in folders for end in (".py", "/__init__.py"))
        yield from [place for place in places if read(place) is not None][:1]


class WithoutTypes(ast.NodeTransformer):
    """Removes what only a type checker reads; keeps the annotated names of a class, its fields."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Keep the annotated names of a class, which are the fields of a dataclass."""
        parts = (
            part if isinstance(part, ast.AnnAssign) else self.visit(part) for part in node.body
        )
        node.body = [part for part in parts if part is not None]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        """Keep a function; drop one that only declares an overload."""
        if any(getattr(part, "id", None) == "overload" for part in node.decorator_list):
            return None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Make an assignment a plain one; drop a mere declaration."""
        return node.value and self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace a `cast` by what it returns, its second argument."""
        self.generic_visit(node)
        cast = getattr(node.func, "id", None) == "cast" and len(node.args) == 2
        return node.args[1] if cast else node


def dumped(node: object) -> Iterator[str]:
    """The parts of a syntax tree that count, as text; the same for every version of Python."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if name in NO_CODE or value is None or value == []:
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
            if getattr(item, "module", None) not in TYPING:
                yield from dumped(item)
        yield "]"
    else:
        yield repr(node)


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is only a string."""
    value = getattr(node, "value", None)
    return isinstance(node, ast.Expr) and isinstance(getattr(value, "value", None), str)


def called(node: ast.Call) -> str | None:
    """The name of the function or method that is called."""
    return getattr(node.func, "id", getattr(node.func, "attr", None))
