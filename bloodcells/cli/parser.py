"""The argument parser of all scripts: its help is the script's docstring, its errors one line."""

from __future__ import annotations

import argparse
import ast
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bloodcells import ROOT
from bloodcells.errors import UserError


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the docstring's line breaks, and ends each flag's help with its default, if any.

    Default places are those within the project.
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None:
            return action.help
        text, default = super()._get_help_string(action), action.default
        if text and isinstance(default, list):
            return text.replace("%(default)s", " ".join(map(str, default)))
        if text and isinstance(default, Path) and default.is_relative_to(ROOT):
            place = "the project" if default == ROOT else default.relative_to(ROOT).as_posix()
            return text.replace("%(default)s", place)
        return text


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, without the usage message.

    The docstring of the file `script` begins and ends its help. `tables` names the TOML tables that
    its presets may contain; they are passed on unchanged.
    """

    tables: tuple[str, ...] = ()

    def __init__(self, script: str | None = None, **settings: Any) -> None:
        if script is not None:
            text = Path(script).read_text(encoding="utf-8")
            docstring = ast.get_docstring(ast.parse(text)) or ""
            settings["description"], _, settings["epilog"] = docstring.partition("\n\n")
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **settings)
        self.script = script
        self.idle: list[tuple[Sequence[str], str]] = []

    def hide(self, names: Sequence[str], where: str) -> None:
        """Keep flags that do nothing in this script out of its help; `parse` refuses them."""
        self.idle.append((names, where))
        for action in self._actions:
            if action.dest in names:
                action.help = argparse.SUPPRESS

    def print_help(self, file: Any = None) -> None:
        """Print the help; `ArgumentParser` would hide that the disk is full."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`, which `run_script` prints."""
        kind, _, given = message.partition(": ")
        if kind == "unrecognized arguments" and given.startswith("--"):
            message += did_you_mean(given.partition(" ")[0], self._option_string_actions)
        raise UserError(message)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A hint at the known name that is nearest to a mistyped one; empty if none is near."""
    given = given.partition("=")[0].replace("_", "-").replace("learning-rate", "lr")
    close = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
