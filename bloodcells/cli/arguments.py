"""What scripts share on the command line: flags, the run folder's name, recorded settings.

Nothing slow is imported here, so that `--help` and wrong flags are answered at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from bloodcells import ROOT
from bloodcells.cli.endings import run_script as run_script  # for the scripts
from bloodcells.cli.parser import Parser
from bloodcells.cli.presets import layers, preset_path, read_preset
from bloodcells.cli.recipe import SEEDED
from bloodcells.cli.types import integer, location, named_folder, regex, whole_number
from bloodcells.errors import UserError
from bloodcells.tracking.files import read_entry
from bloodcells.tracking.provenance import code_of

STARTED = time.perf_counter()  # close to the start of the script
SIZES = (28, 64, 128, 224)
LEAKS = "as published: most of these test images were trained on"
SYNTHETIC = "generated images: not a result"
PLACES = ("config", "output", "data_root", "photographs")  # settings for one machine
ELSEWHERE = ("elsewhere", "slide")  # another laboratory's images, which are recorded by name
WORK = (  # for one command
    *("resume", "overwrite", "checkpoint_every", "only_fold", "only_seed"),
    *("tensorboard", "quiet", "threads"),
)
NOT_RECORDED = (*PLACES, *ELSEWHERE, *WORK, "code")  # `code` is no flag: `parse` adds it
NOT_IN_THE_NAME = (  # of a run folder
    *(*NOT_RECORDED, "device", "figure_format", "save_weights", "weights", "storage", "trials"),
    *("synthetic", "protocol"),  # which `run_name` adds itself, as it does photographs
)


def make_parser(script: str, preset: str) -> Parser:
    """A parser with the flags that most scripts share; without --config, `preset` is read."""
    parser = Parser(script)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data-root",
        type=location,
        metavar="DIR",
        help="folder of bloodmnist.npz (default: $MEDMNIST_ROOT, ~/.medmnist, then a download)",
    )
    data.add_argument(
        "--size", type=integer, choices=SIZES, default=28, help="image side in pixels"
    )
    data.add_argument(
        "--synthetic",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="use a few generated images instead of BloodMNIST (demos and tests only)",
    )
    data.add_argument(
        "--photographs",
        type=location,
        metavar="DIR",
        help="make the images anew from the original photographs in this folder, at any size",
    )
    data.add_argument(
        "--jpeg",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with --photographs: compress the images as the official ones were",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--config",
        default=preset,
        metavar="FILE.toml",
        help="preset that sets the defaults: a file, or a name from .config/",
    )
    run.add_argument(
        "--output",
        type=location,
        metavar="DIR",
        help="run folder (default: plots/<preset>-<changes>)",
    )
    add_device_flags(run)
    run.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=0,
        help="seed of all random choices; if each model has its own, the first",
    )  # fmt: skip
    add_figure_flag(run)
    return parser


def add_device_flags(group: argparse._ActionsContainer) -> None:
    """Add the flags that say what to compute with."""
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="compute device"
    )
    group.add_argument(
        "--threads",
        type=whole_number(1, 1024),
        metavar="N",
        help="processor threads (default: the cores that this process may use)",
    )


def add_figure_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag that sets the file type of figures."""
    group.add_argument(
        "--figure-format", choices=("png", "pdf", "svg"), default="png", help="figure file type"
    )


def refuse_losing_scores(result: Path, elsewhere: Path | None, and_more: str = "") -> None:
    """Raise `UserError` if scores on another laboratory's images would be replaced by none.

    `and_more` are flags that name further outputs.
    """
    if read_entry(result, "elsewhere") is not None and not elsewhere:
        raise UserError(
            f"--output {result.parent}: it has scores on another laboratory's images, which would "
            f"be lost; pass their folder as --elsewhere, or another --output{and_more}"
        )


def add_elsewhere_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag of another laboratory's images."""
    group.add_argument(
        "--elsewhere",
        type=named_folder,
        metavar="DIR",
        help="score another laboratory's images too: folders named after their classes",
    )


def add_slide_flag(group: argparse._ActionsContainer, what: str) -> None:
    """Add the flag that says which images are of one slide; `what`: what it does."""
    group.add_argument(
        "--slide",
        type=regex,
        metavar="REGEX",
        help="regular expression that matches the slide or person at the beginning of a "
        f"file's name, or whose first group does: {what}",
    )


def parse(
    parser: Parser, argv: Sequence[str] | None = None, also: Sequence[Path] = ()
) -> argparse.Namespace:
    """Parse the command line, which overrides the preset's defaults.

    `also` are further presets whose edits count as those of the code.

    `config` becomes the preset's path, `output` the default run folder if it is not given. An
    attribute is added: `code`, the script's `provenance.Code`. Raises `UserError` for an unknown
    flag, value, preset file or preset key, and for a flag that the protocol ignores.
    """
    first = Parser(add_help=False)
    first.add_argument("--config", default=parser.get_default("config"))
    path = preset_path(first.parse_known_args(argv)[0].config, "--config")
    parser.set_defaults(**read_preset(parser, path))
    args = parser.parse_args(argv)
    args.config = path
    refuse_contradictions(parser, args)
    used = dict.fromkeys(layer for preset in (path, *also) for layer in layers(preset))
    args.code = code_of(Path(cast(str, parser.script)), tuple(used))
    if args.output is None:
        args.output = ROOT / "plots" / run_name(parser, args)
    return args


def refuse_contradictions(parser: Parser, args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that exclude each other, or that do nothing together."""
    if args.photographs and (args.synthetic or args.data_root):
        other = "--synthetic" if args.synthetic else "--data-root"
        raise UserError(f"--photographs: not allowed with {other}")
    if not (args.jpeg or args.photographs):
        raise UserError("--no-jpeg does nothing without --photographs")
    for names, where in parser.idle:
        refuse_idle(parser, args, names, where)
    if getattr(args, "overwrite", False) and (args.resume or trains_a_part(args)):
        raise UserError("--overwrite: not allowed with --resume, --only-fold or --only-seed")
    if args.synthetic:
        refuse_idle(parser, args, ["data_root"], "with --synthetic")
    if hasattr(args, "protocol"):
        idle = "folds" if args.protocol in SEEDED else "runs"
        refuse_idle(parser, args, [idle], f"under --protocol {args.protocol}")


def trains_a_part(args: argparse.Namespace) -> bool:
    """Whether --only-fold or --only-seed leaves some models to other processes."""
    return any(getattr(args, name, None) is not None for name in ("only_fold", "only_seed"))


def refuse_idle(parser: Parser, args: argparse.Namespace, names: Sequence[str], where: str) -> None:
    """Raise `UserError` if one of these flags, which do nothing `where`, is not at its default."""
    for name in names:
        if getattr(args, name) != parser.get_default(name):
            raise UserError(f"--{name.replace('_', '-')} does nothing {where}")


def run_name(parser: Parser, args: argparse.Namespace) -> str:
    """The name of the run folder under `plots/`: the preset, then the settings that differ from it.

    So an experiment with other settings, or with edited code, never writes to the preset's own
    folder.
    """
    parts = [args.config.stem]
    for key, value in vars(args).items():
        if key in NOT_IN_THE_NAME or value == parser.get_default(key):
            continue
        text = "-".join(map(short, value if isinstance(value, list) else [value]))
        parts.append(f"{key.replace('_', '-')}-{text}")
    # these show even if the preset sets them: leaks, other pixels, generated images
    protocol, usual = getattr(args, "protocol", None), parser.get_default("protocol")
    if protocol != usual or protocol == "as-published":
        parts.append(protocol)
    if args.photographs is not None:
        parts.append("photographs")
    if args.synthetic:
        parts.append("synthetic")
    return args.code.folder_name("-".join(parts))


def short(value: object) -> str:
    """A setting as part of a folder's name; a folder outside `plots/` with the one it lies in."""
    if not isinstance(value, Path):
        return str(value)
    parent = value.parent.name
    return value.name if parent in ("", "plots") else f"{parent}-{value.name}"


def warning(args: argparse.Namespace) -> str | None:
    """The warning that every figure must show so as not to be taken for a result, if any."""
    parts = []
    if args.synthetic:
        parts.append(SYNTHETIC)
    if getattr(args, "protocol", None) == "as-published":
        parts.append(LEAKS)
    return "; ".join(parts) or None


def data_settings(args: argparse.Namespace) -> dict:
    """The flags that say which images are loaded: the arguments of `bloodmnist.load`."""
    names = ("data_root", "size", "synthetic", "labels", "photographs", "jpeg")
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def settings_of(args: argparse.Namespace) -> dict:
    """The settings to record with the results; as TOML, a preset that repeats the experiment."""
    return {
        key: value.name if isinstance(value, Path) else value  # another machine has other folders
        for key, value in sorted(vars(args).items())
        if key not in NOT_RECORDED
    }
