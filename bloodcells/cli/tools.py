"""Parsers for report.py, hubconf.py and architecture.py, which have no presets."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli.arguments import SIZES, add_figure_flag, refuse_idle
from bloodcells.cli.parser import Parser
from bloodcells.cli.types import integer, location, non_empty
from bloodcells.errors import UserError
from bloodcells.tracking.provenance import code_of


def parse_report(script: str) -> Namespace:
    """The command line of report.py."""
    parser = Parser(script)
    parser.add_argument(
        "--plots",
        type=location,
        default=ROOT / "plots",
        metavar="DIR",
        help="folder with run folders",
    )
    parser.add_argument(
        "--root",
        type=location,
        default=ROOT,
        metavar="DIR",
        help="folder of the documents to rewrite",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit code 2 if a document is out of date",
    )
    how.add_argument(
        "--compare", nargs="+", type=location, metavar="RUN",
        help="compare these run folders instead, side by side; edited code is allowed",
    )  # fmt: skip
    how.add_argument(
        "--draw", nargs="+", type=location, metavar="RUN",
        help="redraw the figures of these run folders instead, from their files",
    )  # fmt: skip
    parser.add_argument(
        "--data-root",
        type=location,
        metavar="DIR",
        help="folder of the data file, for --compare and --draw",
    )
    add_figure_flag(parser)
    args = parser.parse_args()
    if args.data_root is not None and not (args.compare or args.draw):
        raise UserError("--data-root does nothing without --compare or --draw")
    if not args.draw:
        refuse_idle(parser, args, ["figure_format"], "without --draw")
    if args.compare or args.draw:
        refuse_idle(parser, args, ["root"], "with --compare or --draw")
    if args.draw:
        refuse_idle(parser, args, ["plots"], "with --draw")
    return args


def parse_hub(script: str) -> Namespace:
    """The command line of hubconf.py."""
    parser = Parser(script)
    parser.add_argument(
        "folder", nargs="?", type=location, metavar="FOLDER", help="folder to write"
    )
    args = parser.parse_args()
    if args.folder is None:  # told only if no flag is wrong
        raise UserError("no folder: name the one to write")
    return args


def parse_architecture(script: str) -> Namespace:
    """The command line of architecture.py."""
    parser = Parser(script)
    parser.add_argument("--model", type=non_empty, help="class in models.py (default: all)")
    parser.add_argument(
        "--size", type=integer, choices=SIZES, default=28, help="image side in pixels"
    )
    parser.add_argument(
        "--output",
        type=location,
        metavar="DIR",
        help="folder to write to (default: plots/architecture, plus settings that differ)",
    )
    add_figure_flag(parser)
    args = parser.parse_args()
    args.code = code_of(Path(script))
    parts = ["architecture"]
    if args.model is not None:
        parts.append(args.model)
    if args.size != 28:
        parts.append(f"{args.size}-px")
    args.output = args.output or ROOT / "plots" / args.code.folder_name("-".join(parts))
    return args
