"""The flags of the scripts that train: protocol, recipe, network."""

from __future__ import annotations

import argparse

from bloodcells.cli.arguments import Parser, positive, share, whole_number


def add_training_flags(parser: Parser) -> None:
    """Add the flags of the scripts that train."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--protocol",
        choices=("cross-validation", "as-published", "official", "train-and-validation"),
        default="cross-validation",
        help="honest folds of train + validation, the published code's pooled (leaking) folds, "
        "the official splits, or these with validation trained on as well and nothing held out",
    )
    group.add_argument("--folds", type=whole_number(2, 20), default=5, help="folds")
    group.add_argument(
        "--runs", type=whole_number(1, 100), default=5, help="seeds of a protocol without folds"
    )
    group.add_argument("--epochs", type=whole_number(1, 10**6), default=5, help="epochs a model")
    group.add_argument(
        "--batch-size", type=whole_number(1, 2**20), default=128, help="images a step"
    )
    group.add_argument("--lr", type=positive, default=1e-3, help="learning rate of Adam or AdamW")
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the device has it",
    )
    group.add_argument(
        "--save-weights",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="write each model's weights into the run folder, as safetensors",
    )


def add_work_flags(parser: Parser, spread: bool = True) -> None:
    """Add the flags of a run that may be stopped and continued, and if `spread` shared."""
    group = parser.add_argument_group("work")
    group.add_argument("--resume", action="store_true", help="go on with the unfinished run")
    group.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    group.add_argument(
        "--checkpoint-every", type=whole_number(1, 10**6), default=1, metavar="EPOCHS",
        help="keep the state on the disk as often",
    )  # fmt: skip
    if not spread:
        return
    group.add_argument(
        "--only-fold", type=whole_number(0, 100), metavar="K", help="train this fold alone; others "
        "may be at work on the rest, in the same folder",
    )  # fmt: skip
    group.add_argument(
        "--only-seed", type=whole_number(0, 2**32 - 1), metavar="N", help="the same for a seed"
    )


def add_recipe_flags(parser: Parser) -> None:
    """Add the flags of what goes beyond the paper's recipe; `recipe.Recipe` explains them."""
    group = parser.add_argument_group("recipe")
    yes_or_no = argparse.BooleanOptionalAction
    group.add_argument(
        "--optimizer", choices=("adam", "muon"), default="adam", help="muon: Muon and AdamW"
    )
    group.add_argument("--filter-lr", type=positive, default=0.05, help="learning rate of Muon")
    group.add_argument("--weight-decay", type=share, default=0.0, help="of AdamW")
    group.add_argument(
        "--schedule",
        choices=("constant", "triangle", "steps"),
        default="constant",
        help="of the rates; steps: a tenth at the half, a hundredth at three quarters",
    )
    group.add_argument("--warmup", type=share, default=0.2, help="share of the steps")
    group.add_argument("--label-smoothing", type=share, default=0.0, help="of the loss")
    group.add_argument(
        "--dihedral", action=yes_or_no, default=False, help="turn and mirror training images"
    )
    group.add_argument(
        "--shift", type=whole_number(0, 14), default=0, help="most pixels of 28 to shift by"
    )
    group.add_argument(
        "--cutout", type=whole_number(0, 28), default=0, help="side of the hidden square, of 28"
    )
    group.add_argument(
        "--focus",
        type=share,
        default=0.0,
        help="share of the images a pass after the warm-up, half of it the hardest; 0: all",
    )
    group.add_argument(
        "--views", type=int, choices=(1, 2, 4, 8), default=1, help="views averaged in predictions"
    )


def add_model_flags(parser: Parser) -> None:
    """Add the flags that `models.build` takes."""
    group = parser.add_argument_group("network")
    group.add_argument("--model", default="ConvNet", help="class of models.py to train")
    group.add_argument(
        "--widths", type=whole_number(1, 4096), nargs=3, metavar="N", help="CellNet's channels"
    )
    group.add_argument("--dropout", type=share, help="ConvNet's share of dropped values")
