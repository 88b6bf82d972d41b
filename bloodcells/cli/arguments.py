"""What all scripts share on the command line: flags, presets, one-line errors, exit codes.

Only the standard library is imported here, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from bloodcells import ROOT

PRESETS = ROOT / ".config"
SIZES = (28, 64, 128, 224)
SEEDED = ("official", "train-and-validation")  # protocols of several seeds; the others have folds
LEAKS = "as published: most of these test images were trained on"
SYNTHETIC = "generated images: not a result"
PLACES = ("config", "output", "data_root")  # settings of one machine
WORK = ("resume", "overwrite", "checkpoint_every", "only_fold", "only_seed")  # of one moment
# settings that leave the results as they are, or that the folder's name shows in words
NOT_RESULTS = (
    *(*PLACES, *WORK, "device", "figure_format", "save_weights", "weights"),
    *("synthetic", "protocol", "storage", "trials"),
)


class UserError(Exception):
    """Something that the user can mend: shown as one line on stderr, exit code 2."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the docstring's lines and ends each flag's help with the default, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one line, without the usage block.

    `tables` names the TOML tables that its presets may hold; they are passed on as they are.
    """

    tables: tuple[str, ...] = ()

    def error(self, message: str):
        raise UserError(message)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser type: an integer of `low` to `high`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {low} to {high}")
        return value

    return convert


def positive(text: str) -> float:
    """A parser type: a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return value


def share(text: str) -> float:
    """A parser type: a number of 0 to 1, 1 left out."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 to 1, 1 left out")
    return value


def make_parser(doc: str, preset: str) -> Parser:
    """A parser with the flags common to all scripts; `doc` is the script's docstring.

    `preset` names the file of `.config/` that sets the defaults when `--config` is not given.
    """
    parser = Parser(
        description=doc,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of bloodmnist.npz; without it: $MEDMNIST_ROOT, ~/.medmnist, then a download",
    )
    data.add_argument("--size", type=int, choices=SIZES, default=28, help="image side in pixels")
    data.add_argument(
        "--synthetic",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="use a small generated set instead of BloodMNIST (demos and tests only)",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--config",
        default=preset,
        metavar="FILE.toml",
        help="preset that sets the defaults: a file, or a name from .config/",
    )
    run.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to write to (default: plots/<run>)"
    )
    run.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute"
    )
    run.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=0, help="seed of folds and training"
    )
    run.add_argument(
        "--figure-format", choices=("png", "pdf", "svg"), default="png", help="figure file type"
    )
    return parser


def parse(parser: Parser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line over the preset's defaults; the command line wins.

    `started` of the result is the clock, `time.perf_counter()`, at the script's start.
    Raises `UserError` for an unknown flag, value, preset file or preset key.
    """
    started = time.perf_counter()
    first = Parser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", default=parser.get_default("config"))
    path = preset_path(first.parse_known_args(argv)[0].config, "--config")
    parser.set_defaults(**read_preset(parser, path))
    args = parser.parse_args(argv)
    args.config = path
    if args.output is None:
        args.output = ROOT / "plots" / run_name(parser, args)
    args.started = started
    if hasattr(args, "protocol"):
        idle = "folds" if args.protocol in SEEDED else "runs"
        if getattr(args, idle) != parser.get_default(idle):
            raise UserError(f"--{idle} does nothing under --protocol {args.protocol}")
    return args


def preset_path(name: str, asked: str) -> Path:
    """The file of a preset given as a path or as a name from `.config/`; `asked` says where."""
    for path in (PRESETS / f"{name}.toml", Path(name)):
        if os.path.isfile(path):
            return path
    known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
    raise UserError(f"{asked} {name}: no such file; the presets of .config/ are {known}")


def load_preset(path: Path) -> dict:
    """A preset's keys and values over those of the preset that its key `base` names."""
    layers, seen = [], set()
    while path not in seen:
        seen.add(path)
        try:
            layers.append(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{path}: not a readable TOML file: {error}") from error
        base = layers[-1].pop("base", None)
        if base is None:
            return {key: value for layer in reversed(layers) for key, value in layer.items()}
        beside = path.parent / str(base)
        path = beside if beside.is_file() else preset_path(str(base), f"{path}: base")
    raise UserError(f"{path}: it is its own base")


def read_preset(parser: Parser, path: Path) -> dict:
    """The defaults that a preset sets: its settings, and its tables as they are."""
    preset = load_preset(path)
    tables = {name: preset.pop(name) for name in parser.tables if name in preset}
    return {**read_settings(parser, preset, path), **tables}


def read_settings(parser: Parser, preset: dict, path: Path | str) -> dict:
    """Settings as the flags of the same names read them; `path` says where they stand.

    Raises `UserError` for an unknown name and for a value that the flag does not take.
    """
    flags = vars(parser.parse_args([])).keys() - {"config", "output"}
    as_flags = []
    for key, value in preset.items():
        name = key.replace("-", "_")
        if name not in flags:
            close = difflib.get_close_matches(name, flags, n=1)
            hint = f"; did you mean '{close[0].replace('_', '-')}'?" if close else ""
            raise UserError(f"{path}: unknown key '{key}'{hint}")
        flag = "--" + name.replace("_", "-")
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


def run_name(parser: Parser, args: argparse.Namespace) -> str:
    """The run's folder name under `plots/`: the preset, then whatever departs from it.

    So an experiment on the command line never takes the folder of the preset's own run.
    """
    parts = [args.config.stem]
    for key, value in vars(args).items():
        if key in NOT_RESULTS or value == parser.get_default(key):
            continue
        if isinstance(value, list):
            text = "-".join(item.name if isinstance(item, Path) else str(item) for item in value)
        else:
            text = value.name if isinstance(value, Path) else str(value)
        parts.append(f"{key.replace('_', '-')}-{text}")
    # these two take away a run's worth, so they show even if the preset itself sets them
    protocol, usual = getattr(args, "protocol", None), parser.get_default("protocol")
    parts += [protocol] * (protocol != usual or protocol == "as-published")
    parts += ["synthetic"] * args.synthetic
    return "-".join(parts)


def warning(args: argparse.Namespace) -> str | None:
    """What every figure of the run must say, lest it be taken for a result."""
    warnings = [SYNTHETIC] * args.synthetic
    warnings += [LEAKS] * (getattr(args, "protocol", None) == "as-published")
    return "; ".join(warnings) or None


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main` and exit: 0 done, 2 a user's mistake, 130 Ctrl-C, 141 closed pipe."""
    try:
        main()
    except UserError as error:
        message = " ".join(str(error).split())
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'interrupted: no result was written'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, say `head`, has left
        discard_output()
        sys.exit(141)


def discard_output() -> None:
    """Let go of what standard output did not take, lest Python complain of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
