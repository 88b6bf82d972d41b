"""Presets: TOML files that set the defaults of a script's flags, each perhaps based on another."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli.parser import did_you_mean
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
    return {k: v for layer in reversed(layers(path).values()) for k, v in layer.items()}


def read_preset(parser: argparse.ArgumentParser, path: Path, tables: Sequence[str] = ()) -> dict:
    """The defaults that a preset sets: its settings, parsed, and its `tables`, unchanged.

    Raises `UserError` for an unknown setting or table.
    """
    preset = load_preset(path)
    as_they_are = {name: preset.pop(name) for name in tables if name in preset}
    for name, table in as_they_are.items():
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} is not a table, which begins with the line [{name}]")
    return {**read_settings(parser, preset, path), **as_they_are}


def read_settings(parser: argparse.ArgumentParser, preset: dict, path: Path | str) -> dict:
    """Settings, parsed by the flags of the same names; `path` says where they come from.

    Raises `UserError` for an unknown name, and for a value that the flag does not accept.
    """
    defaults = vars(parser.parse_args([]))
    flags = defaults.keys() - {"config", "output"}
    as_flags = []
    for key, value in preset.items():
        name = key.replace("-", "_")
        if name not in flags:
            hint = did_you_mean(key, [flag.replace("_", "-") for flag in flags])
            raise UserError(f"{path}: unknown key '{key}'{hint}")
        flag = "--" + name.replace("_", "-")
        if value is False and defaults[name] is False:
            continue  # there may be no flag that says so
        if isinstance(value, bool):
            as_flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            as_flags += [flag, *map(str, value)]
        else:
            as_flags.append(f"{flag}={value}")
    try:
        values = vars(parser.parse_args(as_flags))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return {key.replace("-", "_"): values[key.replace("-", "_")] for key in preset}
