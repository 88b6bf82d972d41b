"""Presets: TOML files that set the defaults of a script's flags, each perhaps based on another."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections import ChainMap
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli.parser import Parser, did_you_mean
from bloodcells.errors import UserError

PRESETS = ROOT / ".config"


def preset_path(name: str, asked: str) -> Path:
    """The file of a preset, which `name` gives as a path or as a name from `.config/`.

    `asked` says which flag or key names it. Raises `UserError` if there is no such file.
    """
    for path in (PRESETS / f"{name}.toml", Path(name)):
        if os.path.isfile(path):
            return path
    known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
    raise UserError(f"{asked} {name}: no such file; the presets of .config/ are {known}")


def layers(path: Path) -> dict[Path, dict]:
    """The content of a preset by file, then that of its base, of the base's base, and so on.

    Raises `UserError` for a file that cannot be read, and for a cycle of bases.
    """
    found: dict[Path, dict] = {}
    while (whole := path.resolve()) not in found:
        try:
            found[whole] = with_hyphens(tomllib.loads(path.read_text(encoding="utf-8-sig")), path)
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: not a readable TOML file: {error}") from error
        base = found[whole].pop("base", None)
        if base is None:
            return found
        beside = path.parent / str(base)
        path = beside if beside.is_file() else preset_path(str(base), f"{path}: base")
    raise UserError(f"{path}: it is its own base")


def with_hyphens(settings: dict, path: Path) -> dict:
    """Settings with names like batch-size, also where they are written batch_size."""
    names = {key: key.replace("_", "-") for key in settings}
    for key, name in names.items():
        if name != key and name in settings:
            raise UserError(f"{path}: it has both '{key}' and '{name}', which are one setting")
    return {names[key]: value for key, value in settings.items()}


def load_preset(path: Path) -> dict:
    """A preset's keys and values; they override those of its bases."""
    return dict(ChainMap(*layers(path).values()))  # the first that has a key decides


def read_preset(parser: Parser, path: Path) -> dict:
    """The defaults that a preset sets: its settings, parsed, and the parser's tables, unchanged.

    Raises `UserError` for an unknown setting or table.
    """
    preset = load_preset(path)
    tables = {name: preset.pop(name) for name in parser.tables if name in preset}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} is not a table, which begins with the line [{name}]")
    return {**read_settings(parser, preset, path), **tables}


def read_settings(parser: argparse.ArgumentParser, preset: dict, path: Path | str) -> dict:
    """Settings, parsed by the flags of the same names; `path` says where they come from.

    Raises `UserError` for an unknown name, and for a value that the flag does not accept.
    """
    defaults = vars(parser.parse_args([]))
    known = defaults.keys() - {"config", "output"}
    names = {key: key.replace("-", "_") for key in preset}
    as_flags = []
    for key, value in preset.items():
        name, flag = names[key], key.replace("_", "-")
        if name not in known:
            hint = did_you_mean(key, [one.replace("_", "-") for one in known])
            raise UserError(f"{path}: unknown key '{key}'{hint}")
        if value is False and defaults[name] is False:
            continue  # there may be no flag that says so
        if isinstance(value, bool):
            as_flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            as_flags += [f"--{flag}", *map(str, value)]
        else:
            as_flags.append(f"--{flag}={value}")
    try:
        values = vars(parser.parse_args(as_flags))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return {name: values[name] for name in names.values()}
