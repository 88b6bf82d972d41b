"""The command lines of most scripts; `script` is always the script's own file.

Those of predict.py, finetune.py and demo.py are in `own_images`, of ablation.py, batch_effect.py
and explain.py in `studies`, of report.py, architecture.py and hubconf.py in `tools`.

Nothing slow is imported here, so that a script answers `--help` and reports mistakes before it
loads torch. All raise `UserError`.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli.arguments import (
    add_elsewhere_flag,
    add_slide_flag,
    make_parser,
    parse,
    refuse_idle,
    refuse_losing_scores,
    run_name,
)
from bloodcells.cli.flags import (
    add_network_flags,
    add_recipe_flags,
    add_training_flags,
    add_work_flags,
)
from bloodcells.cli.parser import Parser
from bloodcells.cli.presets import PRESETS
from bloodcells.cli.recipe import Recipe
from bloodcells.cli.types import (
    fraction,
    location,
    named_folder,
    non_empty,
    positive,
    up_to,
    weights_to_write,
    whole_number,
)
from bloodcells.errors import UserError
from bloodcells.tracking.files import find

FALSE_ALARMS = 0.01  # of the released weights


def parse_baseline(script: str) -> Namespace:
    """The command line of model_baseline.py."""
    parser = make_parser(script, preset="baseline")
    add_training_flags(parser)
    add_work_flags(parser)
    return parse(parser)


def parse_cnn(script: str) -> Namespace:
    """The command line of model_cnn.py."""
    parser = make_parser(script, preset="cnn-paper")
    add_training_flags(parser)
    add_work_flags(parser)
    add_recipe_flags(parser)
    add_network_flags(parser)
    parser.add_argument(
        "--teacher",
        type=named_folder,
        metavar="DIR",
        help="run folder with weights, whose models' mean answer softens the training labels",
    )
    args = parse(parser)
    Recipe.of(args)  # raises for settings that do nothing together
    return args


def search_parser(script: str) -> Parser:
    """The parser of model_parameter_tuning.py; a preset's table [space] lists what to vary."""
    parser = make_parser(script, preset="tuning")
    parser.tables = ("space",)
    add_training_flags(parser)
    add_recipe_flags(parser)
    add_network_flags(parser)
    group = parser.add_argument_group("search")
    group.add_argument(
        "--search", choices=("grid", "tpe"), default="grid", help="all combinations or Optuna's TPE"
    )
    group.add_argument(
        "--trials", type=whole_number(1, 10**6), help="number of trials for --search tpe"
    )
    group.add_argument(
        "--objective",
        choices=("accuracy", "loss"),
        default="accuracy",
        help="what to optimise on the held-out images, after the last epoch",
    )
    group.add_argument(
        "--patience", type=whole_number(0, 10**6), default=0,
        help="early stopping, at a constant learning rate without focus: epochs without a lower "
        "held-out loss before training stops; 0: off",
    )  # fmt: skip
    group.add_argument(
        "--threshold", type=fraction, default=0.01,
        help="relative decrease from which a loss counts as lower",
    )  # fmt: skip
    group.add_argument(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="end a trial that is worse than the best by more than --prune-margin",
    )
    group.add_argument(
        "--prune-margin",
        type=positive,
        default=0.05,
        help="margin of --prune, in units of the objective",
    )
    group.add_argument(
        "--storage",
        type=non_empty,
        metavar="URL",
        help="database of the study, shared by all workers (default: study.db in --output)",
    )
    return parser


def parse_search(script: str) -> tuple[Namespace, Parser]:
    """The command line of model_parameter_tuning.py, and the parser that reads its space."""
    parser = search_parser(script)
    parser.hide(["save_weights"], "in a search")
    args = parse(parser)
    if any("\udc80" <= c <= "\udcff" for c in f"{args.output}{args.storage}"):  # such a byte
        raise UserError("--output and --storage: the name of a search's database must be UTF-8")
    if args.protocol not in ("cross-validation", "official"):
        raise UserError(f"--protocol {args.protocol}: a search needs cross-validation or official")
    if args.search == "tpe" and args.trials is None:
        raise UserError("--trials: needed for --search tpe")
    if args.search == "grid" and args.trials is not None:
        raise UserError(
            "--trials: the grid has a number of its own; omit it, or extend a preset without it"
        )
    if not args.prune:
        refuse_idle(parser, args, ["prune_margin"], "with --no-prune")
    if not args.patience:
        refuse_idle(parser, args, ["threshold"], "with --patience 0")
    return args, parser


def parse_data(script: str) -> Namespace:
    """The command line of data_visualization.py."""
    parser = make_parser(script, preset="data")
    group = parser.add_argument_group("figures and audit")
    group.add_argument(
        "--montage",
        type=whole_number(1, 100),
        nargs="+",
        default=[1, 20, 40],
        metavar="SIDE",
        help="draw a montage of SIDE x SIDE training images, for each SIDE",
    )
    group.add_argument(
        "--examples", type=whole_number(1, 50), default=10, help="number of examples of each class"
    )
    group.add_argument(
        "--near-duplicate",
        type=up_to(255),
        default=12.0,
        metavar="RMS",
        help="largest root-mean-square difference, in grey levels, of a near duplicate",
    )
    parser.hide(["seed", "device", "threads"], "here: nothing is trained")
    return parse(parser)


def parse_bench(script: str, networks: Iterable[str] = ()) -> Namespace:
    """The command line of bench.py, whose results depend on the presets of `networks`, too."""
    parser = make_parser(script, preset="bench")
    parser.add_argument(
        "--repeats",
        type=whole_number(1, 1000),
        default=7,
        help="timings of each, fewer if slow",
    )
    return parse(parser, also=[PRESETS / f"{name}.toml" for name in networks])


def parse_robustness(script: str) -> Namespace:
    """The command line of robustness.py."""
    parser = make_parser(script, preset="robustness")
    group = parser.add_argument_group("robustness")
    group.add_argument(
        "--runs", nargs="+", type=location, metavar="DIR", help="run folders with saved weights"
    )
    group.add_argument("--kinds", nargs="+", metavar="NAME", help="corruptions (default: all)")
    group.add_argument(
        "--images",
        type=whole_number(1, 10**5),
        default=1000,
        help="number of test images, stratified by class",
    )
    args = parse(parser)
    if not args.runs:
        raise UserError("--runs: name run folders with saved weights")
    args.kinds = list(dict.fromkeys(args.kinds or ())) or None
    return args


def parse_release(script: str) -> Namespace:
    """The command line of model_release.py."""
    parser = make_parser(script, preset="release")
    group = parser.add_argument_group("release")
    group.add_argument(
        "--run",
        type=location,
        default=Path("plots/cnn-robust"),
        metavar="DIR",
        help="run folder of the trained models",
    )
    group.add_argument(
        "--weights",
        type=weights_to_write,
        metavar="FILE",
        help="file to write (default: weights/<run>.safetensors, with other settings named after "
        "them)",
    )
    group.add_argument(
        "--false-alarms",
        type=up_to(0.5),
        default=FALSE_ALARMS,
        help="share of the validation images that may be flagged as unlike the training images",
    )
    add_elsewhere_flag(group)
    add_slide_flag(group, "then the interval of --elsewhere is over slides")
    args = parse(parser)
    if args.slide and not args.elsewhere:
        raise UserError("--slide does nothing without --elsewhere")
    refuse_losing_scores(args.output / "metrics.json", args.elsewhere, " and --weights")
    settings = args.false_alarms, args.seed, find(args.run).resolve().parent
    usual = settings == (FALSE_ALARMS, 0, ROOT / "plots")
    # neither edited code nor other settings or runs replace the released weights
    name = args.code.folder_name(args.run.name) if usual else run_name(parser, args)
    if args.weights is None:
        try:
            args.weights = weights_to_write(str(ROOT / "weights" / f"{name}.safetensors"))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--weights: {error}") from error
    return args
