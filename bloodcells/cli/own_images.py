"""Parsers for the scripts that classify a user's own images.

As in `scripts.py`, nothing slow is imported, and all raise `UserError`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli.arguments import (
    add_device_flags,
    add_figure_flag,
    add_slide_flag,
    refuse_idle,
)
from bloodcells.cli.parser import Parser
from bloodcells.cli.types import fraction, integer, location, non_empty, whole_number
from bloodcells.errors import UserError
from bloodcells.tracking.provenance import code_of

WEIGHTS = {"classes": "cnn-robust.safetensors", "stages": "cnn-stages.safetensors"}
NEEDED_WITH = {  # a flag: it does nothing without one of these
    "slide": ("labelled",),
    "names": ("labelled", "classes"),
    "output": ("labelled", "detect"),
}
FRAMES = ("auto", "cell", "centre", "none")


def parse_predict(script: str) -> Namespace:
    """The command line of predict.py."""
    parser = Parser(script)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="image, folder, glob, array, or -")
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json", "html"),
        default="table",
        help="format of the results",
    )
    add_views_flag(parser)
    add_image_flags(parser)
    add_answer_flags(parser)
    add_label_flags(parser)
    parser.add_argument(
        "--export",
        type=location,
        metavar="FILE.onnx",
        help="write the model as ONNX instead, checked on PATH or on generated images",
    )
    parser.add_argument(
        "--weights",
        type=location,
        metavar="FILE",
        help="trained weights, with the .json file of the same name (default: by --labels, those "
        "in weights/)",
    )
    add_device_flags(parser)
    parser.add_argument(
        "--batch-size", type=whole_number(1, 2**20), default=128, help="images per batch"
    )
    args = parse_paths(parser)
    refuse_idle_flags(parser, args)
    args.weights = args.weights or ROOT / "weights" / WEIGHTS[args.labels]
    args.differential = args.differential or args.detect
    args.code = code_of(Path(script)) if args.output else None  # a fifth of a second
    if args.detect:
        args.frame = "detect"
    elif args.crop != "auto":
        args.frame = "none" if args.crop == "whole" else args.crop  # the middle, N pixels
    return args


def parse_paths(parser: Parser) -> Namespace:
    """Flags and PATHs in any order; after --, a path may begin with a hyphen."""
    given = sys.argv[1:]
    flags = given[: given.index("--")] if "--" in given else given
    args = parser.parse_intermixed_args(flags)
    args.paths += given[len(flags) + 1 :]
    return args


def refuse_idle_flags(parser: Parser, args: Namespace) -> None:
    """Raise `UserError` without images, and for flags that do nothing together."""
    if not args.paths and args.export is None:
        raise UserError("no images: name files or folders, or - for standard input")
    if args.export is not None:
        idle = ["format", "abstain_below", "sets", "labelled", "classes", "names", "save_crops"]
        refuse_idle(parser, args, [*idle, "adapt", "differential", "batch_size"], "with --export")
    if not args.paths:
        refuse_idle(parser, args, ["frame", "crop"], "without images")
    for name, partners in NEEDED_WITH.items():
        if getattr(args, name) is not None and not any(getattr(args, one) for one in partners):
            either = " or ".join(f"--{one}" for one in partners)
            raise UserError(f"--{name} does nothing without {either}")
    if args.weights is not None and args.labels != parser.get_default("labels"):
        raise UserError("--labels does nothing with --weights")
    if args.detect:
        refuse_with_detect(args)
    if args.crop != "auto" and args.frame is not None:
        raise UserError(f"--frame does nothing with --crop {args.crop}")


def refuse_with_detect(args: Namespace) -> None:
    """Raise `UserError` for flags that --detect does not allow."""
    if args.labelled or args.export is not None:
        raise UserError("--detect: not allowed with --labelled or --export")
    if args.output is not None and "-" in args.paths:
        raise UserError("--output: not allowed with --detect and standard input; name a file")
    if (args.crop, args.frame) != ("auto", None):
        raise UserError("--detect: not allowed with --crop or --frame")


def add_image_flags(parser: Parser) -> None:
    """Add the flags that say what of an image is kept."""
    add_frame_flag(parser, None, " (default: auto, or as finetune.py framed for --weights)")
    parser.add_argument(
        "--crop",
        type=crop,
        default="auto",
        metavar="{auto,whole,N}",
        help="N: the middle N x N pixels; whole: the same as --frame none; auto: as --frame says",
    )
    parser.add_argument(
        "--detect",
        action="store_true",
        help="each image is a field of view: find its nucleated cells, classify each, count them",
    )
    parser.add_argument(
        "--save-crops", type=location, metavar="DIR", help="save what the network saw of each image"
    )


def add_frame_flag(parser: Parser, default: str | None = "auto", more: str = "") -> None:
    """Add the flag that says where in an image the cell is."""
    parser.add_argument(
        "--frame",
        choices=FRAMES,
        default=default,
        help="cell: find the cell and cut it as the training images show theirs; auto: the same, "
        "but the data set's own photographs as the data set cuts them, and squares of 28, 64, 128 "
        "or 224 pixels, as MedMNIST's are, whole; centre: the middle square; none: the whole image"
        + more,
    )


def add_answer_flags(parser: Parser) -> None:
    """Add the flags that change what is said of an image."""
    parser.add_argument(
        "--labels",
        choices=tuple(WEIGHTS),
        default="classes",
        help="name eight classes, or eleven stages of maturation",
    )
    parser.add_argument(
        "--differential",
        action="store_true",
        help="count the images of each class: shares of the white cells, as in a blood count",
    )
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        metavar="NAME,NAME",
        help="the only classes that can occur; normal-differential: the five white cells of "
        "normal blood",
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="first adapt to the images, at least 36 of several classes, all of one other "
        "laboratory",
    )
    parser.add_argument(
        "--abstain-below",
        type=fraction,
        default=0.0,
        metavar="P",
        help="name no class if its probability is below this",
    )
    parser.add_argument(
        "--sets",
        choices=("0.95", "0.99"),
        help="add a prediction set, which should hold the true class for this share of images",
    )


def add_label_flags(parser: Parser) -> None:
    """Add the flags of labelled images."""
    parser.add_argument(
        "--labelled",
        action="store_true",
        help="report the accuracy; each image's folder is named after its class",
    )
    add_names_flag(parser)
    add_slide_flag(parser, "then intervals of the averages of --labelled are over slides")
    parser.add_argument(
        "--output",
        type=location,
        metavar="DIR",
        help="run folder for what --labelled or --detect finds",
    )


def add_views_flag(parser: Parser) -> None:
    """Add --views."""
    parser.add_argument(
        "--views",
        type=integer,
        choices=(1, 8),
        default=1,
        help="rotations and reflections to average over; 8: more accurate, 8 times as slow",
    )


def add_names_flag(parser: Parser) -> None:
    """Add --names."""
    parser.add_argument(
        "--names",
        type=location,
        metavar="FILE.toml",
        help='more names for the classes, such as poly = "neutrophil"',
    )


def crop(text: str) -> str:
    """An argparse type: "auto", "whole", or a side in pixels."""
    return text if text in ("auto", "whole") else str(whole_number(14, 10**5)(text))


def parse_finetune(script: str) -> Namespace:
    """The command line of finetune.py."""
    parser = Parser(script)
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="labelled images: folders named after the classes, or one that holds such folders",
    )
    parser.add_argument(
        "--output", type=location, metavar="DIR", help="run folder to write (needed)"
    )
    parser.add_argument(
        "--weights",
        type=location,
        default=ROOT / "weights" / WEIGHTS["classes"],
        metavar="FILE",
        help="released weights to begin with",
    )
    add_names_flag(parser)
    add_slide_flag(parser, "images of one are held out together")
    add_frame_flag(parser)
    parser.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=0, help="of the folds and draws"
    )
    add_device_flags(parser)
    add_figure_flag(parser)
    args = parse_paths(parser)
    if not args.paths:  # told only if no flag is wrong
        raise UserError("no images: name a folder with folders named after the classes")
    if args.output is None:
        raise UserError("--output DIR is missing: name a run folder to write")
    args.code = code_of(Path(script))
    return args


def parse_demo(script: str) -> Namespace:
    """The command line of demo.py."""
    parser = Parser(script)
    parser.add_argument("--host", type=non_empty, default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=whole_number(1, 65535), default=7860, help="port")
    parser.add_argument(
        "--weights",
        type=location,
        default=ROOT / "weights" / WEIGHTS["classes"],
        metavar="FILE",
        help="trained weights, with the .json file of the same name",
    )
    add_views_flag(parser)
    add_device_flags(parser)
    return parser.parse_args()
