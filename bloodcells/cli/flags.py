"""Groups of flags that several scripts take: training, stopping and resuming, recipe, network."""

from __future__ import annotations

import argparse
from dataclasses import fields

from bloodcells.cli.arguments import Parser
from bloodcells.cli.recipe import Recipe, add_flag
from bloodcells.cli.types import fraction, whole_number

OF_TRAINING = ("epochs", "batch_size", "lr")  # fields of Recipe that every training script takes


def add_training_flags(parser: Parser) -> None:
    """Add the flags of the scripts that train."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--labels",
        choices=("classes", "stages"),
        default="classes",
        help="the eight official classes, or eleven stages of maturation, without the images whose "
        "stage is not known",
    )
    group.add_argument(
        "--protocol",
        choices=("cross-validation", "as-published", "official", "train-and-validation"),
        default="cross-validation",
        help="cross-validation: folds of train + validation; as-published: folds of all three "
        "splits pooled, which leaks test images; official: the official splits; "
        "train-and-validation: train on both, hold nothing out",
    )
    group.add_argument("--folds", type=whole_number(2, 20), default=5, help="number of folds")
    group.add_argument(
        "--runs",
        type=whole_number(1, 100),
        default=5,
        help="number of seeds, for protocols without folds",
    )
    for part in fields(Recipe):
        if part.name in OF_TRAINING:
            add_flag(group, part)
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 if the device supports it natively, else float32",
    )
    group.add_argument(
        "--save-weights",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="write each model's weights into the run folder, as safetensors",
    )


def add_work_flags(parser: Parser, spread: bool = True) -> None:
    """Add the flags for resuming an experiment and, if `spread`, for sharing it."""
    group = parser.add_argument_group("work")
    group.add_argument("--resume", action="store_true", help="resume the unfinished experiment")
    group.add_argument("--overwrite", action="store_true", help="replace the folder's experiment")
    group.add_argument(
        "--checkpoint-every", type=whole_number(1, 10**6), default=1, metavar="EPOCHS",
        help="epochs between checkpoints",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no progress bar, no line per epoch")
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write curves and example images for TensorBoard into the run folder",
    )
    if not spread:
        return
    group.add_argument(
        "--only-fold", type=whole_number(0, 100), metavar="K", help="train only this fold; other "
        "processes may train the others in the same folder",
    )  # fmt: skip
    group.add_argument(
        "--only-seed", type=whole_number(0, 2**32 - 1), metavar="N", help="train only this seed"
    )


def add_recipe_flags(parser: Parser) -> None:
    """Add the flags of the settings that go beyond the paper's recipe."""
    group = parser.add_argument_group("recipe")
    for part in fields(Recipe):
        if part.metadata and part.name not in OF_TRAINING:
            add_flag(group, part)


def add_network_flags(parser: Parser) -> None:
    """Add the flags for the arguments of `models.build`."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--model", default="ConvNet", help="class in models.py to train, such as CellNet"
    )
    group.add_argument(
        "--widths",
        type=whole_number(1, 4096),
        nargs=3,
        metavar="N",
        help="channels of CellNet or RobustNet; if not given, the class's own",
    )
    group.add_argument("--dropout", type=fraction, help="ConvNet's dropout (default: 0.25)")
