"""Parsers for the command line of the studies that train models as model_cnn.py does.

As in `scripts.py`, nothing slow is imported, and all raise `UserError`.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bloodcells.cli.arguments import (
    add_elsewhere_flag,
    make_parser,
    parse,
    refuse_losing_scores,
)
from bloodcells.cli.flags import (
    add_network_flags,
    add_recipe_flags,
    add_training_flags,
    add_work_flags,
)
from bloodcells.cli.parser import Parser
from bloodcells.cli.types import location, whole_number
from bloodcells.errors import UserError
from bloodcells.tracking.files import CHECKPOINTS


def training_parser(script: str, preset: str, unkept: str) -> Parser:
    """A parser with model_cnn.py's flags; `unkept` says where --save-weights does nothing."""
    parser = make_parser(script, preset)
    add_training_flags(parser)
    add_work_flags(parser, spread=False)
    add_recipe_flags(parser)
    add_network_flags(parser)
    parser.hide(["save_weights"], unkept)
    return parser


def parse_ablation(script: str) -> Namespace:
    """The command line of ablation.py."""
    parser = training_parser(script, "ablation", "in an ablation")
    parser.add_argument(
        "--replicates",
        type=whole_number(2, 20),
        default=3,
        help="number of folds to use, out of --folds",
    )
    parser.add_argument(
        "--only", metavar="VARIANT", help="train only this variant and the whole recipe"
    )
    add_elsewhere_flag(parser)
    args = parse(parser)
    if args.protocol != "cross-validation":
        raise UserError(f"--protocol {args.protocol}: the ablation needs cross-validation")
    if args.elsewhere and not args.domain_randomisation:
        raise UserError("--elsewhere does nothing without --domain-randomisation")
    if args.elsewhere and args.labels != "classes":
        raise UserError("--elsewhere: its folders name classes; not allowed with --labels stages")
    if args.overwrite or (args.output / CHECKPOINTS).is_dir():  # it is going to be replaced
        refuse_losing_scores(args.output / "ablation.json", args.elsewhere)
    if args.replicates > args.folds:
        raise UserError(f"--replicates {args.replicates}: there are only {args.folds} folds")
    return args


def parse_batch_effect(script: str) -> Namespace:
    """The command line of batch_effect.py."""
    args = parse(training_parser(script, "batch-effect", "here: the models are not kept"))
    if args.protocol != "official":
        raise UserError(f"--protocol {args.protocol}: here models train on the official split")
    if args.labels != "classes":
        raise UserError(f"--labels {args.labels}: granulocytes of the second batch have no stage")
    return args


def parse_explain(script: str) -> Namespace:
    """The command line of explain.py."""
    parser = training_parser(script, "explain", "here: the models are not kept")
    parser.add_argument(
        "--released",
        type=location,
        default=Path("weights/cnn-robust.safetensors"),
        metavar="FILE",
        help="released weights to examine",
    )
    args = parse(parser)
    if args.protocol != "cross-validation":
        raise UserError(f"--protocol {args.protocol}: only cross-validation holds out every image")
    if args.labels != "classes":
        raise UserError(f"--labels {args.labels}: the released network names classes")
    return args
