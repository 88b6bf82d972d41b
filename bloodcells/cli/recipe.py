"""How a model is trained: one record, whose fields define flags, defaults and help texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from bloodcells.cli.types import fraction, positive, whole_number
from bloodcells.errors import UserError

SEEDED = ("official", "train-and-validation")  # protocols with several seeds; the others have folds
ALL_AT_THE_END = 0.1  # --focus is off in this last share of the steps


def setting(
    default: object,
    of: Callable[[str], object] | tuple | type[bool],
    help: str,
) -> Any:
    """A field that is also a flag; `of` is a parser, a tuple of the choices, or `bool`."""
    return field(default=default, metadata={"of": of, "help": help})


@dataclass(frozen=True)
class Recipe:
    """The settings of optimisation, augmentation and views. The defaults are the paper's."""

    epochs: int = setting(5, whole_number(1, 10**6), help="epochs per model")
    batch_size: int = setting(128, whole_number(1, 2**20), help="images per step")
    lr: float = setting(1e-3, positive, help="learning rate of Adam or AdamW")
    optimizer: str = setting(
        "adam",
        ("adam", "muon"),
        help="adam, or muon: Muon for the filters after the first layer, AdamW for the rest",
    )
    filter_lr: float = setting(0.05, positive, help="learning rate of Muon (--optimizer muon)")
    weight_decay: float = setting(
        0.0,
        fraction,
        help="weight decay of AdamW, on matrices and the first layer's filters (--optimizer muon)",
    )
    schedule: str = setting(
        "constant",
        ("constant", "triangle", "steps"),
        help="learning-rate schedule; triangle: linear warm-up, then linear decay to zero; steps: "
        "divided by 10 after half of the steps, by 100 after three quarters",
    )
    warmup: float = setting(
        0.2,
        fraction,
        help="length of the warm-up, as a share of the steps, for --schedule triangle and --focus",
    )
    label_smoothing: float = setting(0.0, fraction, help="label smoothing of the loss")
    dihedral: bool = setting(
        False, bool, help="show each training image in its eight rotations and reflections, in turn"
    )
    shift: int = setting(
        0, whole_number(0, 14), help="largest random shift in pixels at size 28, mirror-padded"
    )
    cutout: int = setting(
        0, whole_number(0, 28), help="side of a mid-grey square, in pixels at size 28; 0: none"
    )
    domain_randomisation: float = setting(
        0.0,
        fraction,
        help="share of each batch changed at random: colours, geometry, sharpness, spots and noise",
    )
    unchanged: str = setting(
        "none",
        ("none", "colour", "geometry", "sharpness", "dirt"),
        help="kind of change that domain randomisation leaves out; dirt: spots and noise",
    )
    focus: float = setting(
        0.0,
        fraction,
        help="share of the images to train on between the warm-up and the last tenth of the steps: "
        "half of them with the highest loss, half at random; 0: all images",
    )
    views: int = setting(
        1,
        (1, 2, 4, 8),
        help="test-time augmentation: number of views (the image, its rotations and reflections) "
        "whose predictions are averaged",
    )
    precision: str = "float32"  # or "bfloat16"; "auto" is resolved before

    def __post_init__(self) -> None:
        """Refuse a setting that has no effect: runs that differ only in it would be identical.

        Raises `UserError`, and `ValueError` for a choice that there is not.
        """
        for part in fields(self):
            choices = part.metadata.get("of")
            if isinstance(choices, tuple) and getattr(self, part.name) not in choices:
                raise ValueError(f"{part.name} {getattr(self, part.name)!r}: not of {choices}")
        # before focus begins, each pass is an epoch: so focus can begin only where an epoch does
        starts = (epoch / self.epochs for epoch in range(1, self.epochs))
        if self.focus and not any(self.warmup <= done < 1 - ALL_AT_THE_END for done in starts):
            raise UserError(
                f"--focus does nothing with --epochs {self.epochs} and --warmup {self.warmup:g}: "
                f"the first pass, and those that begin in the warm-up or the last "
                f"{ALL_AT_THE_END:.0%} of the steps, cover all images; pass more, or --focus 0"
            )
        if self.unchanged != "none" and not self.domain_randomisation:
            raise UserError("--unchanged does nothing without --domain-randomisation")
        partners = {
            "filter_lr": ("optimizer", "muon"),
            "weight_decay": ("optimizer", "muon"),
        }
        if not self.focus:
            partners["warmup"] = ("schedule", "triangle")
        for name, (partner, needed) in partners.items():
            changed = getattr(self, name) != getattr(Recipe, name)  # the class holds the defaults
            if changed and getattr(self, partner) != needed:
                flag = name.replace("_", "-")
                raise UserError(
                    f"--{flag} does nothing without --{partner} {needed}"
                    f"{' or --focus' if name == 'warmup' else ''}; if it is the preset's, "
                    f"pass --{flag} {getattr(Recipe, name):g}"
                )

    @classmethod
    def of(cls, args: argparse.Namespace) -> Recipe:
        """The recipe that the flags of the same names describe."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: getattr(args, name) for name in names if hasattr(args, name)})


def add_flag(group: argparse._ArgumentGroup, part: Field) -> None:
    """Add the flag of a field of `Recipe`."""
    flag, of = "--" + part.name.replace("_", "-"), part.metadata["of"]
    how: dict[str, Any] = {"default": part.default, "help": part.metadata["help"]}
    if of is bool:
        how["action"] = argparse.BooleanOptionalAction
    elif isinstance(of, tuple):
        how["type"], how["choices"] = type(part.default), of
    else:
        how["type"] = of
    group.add_argument(flag, **how)
