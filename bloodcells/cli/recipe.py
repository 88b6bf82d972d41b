"""How a model is fitted: one record of every setting that training depends on."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from bloodcells.cli.arguments import UserError

ALL_AT_THE_END = 0.1  # share of the steps, the last ones, whose passes are over all images


@dataclass(frozen=True)
class Recipe:
    """The defaults are the paper's: Adam at a constant rate, no augmentation."""

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adam"  # or "muon": Muon for the filters, AdamW for all other weights
    filter_lr: float = 0.05  # Muon's rate
    weight_decay: float = 0.0  # AdamW's, on its matrices and the filters on pixels
    # "constant"; "triangle": up during the warm-up, then down to zero; or "steps": a tenth from the
    # half on, a hundredth from three quarters on
    schedule: str = "constant"
    warmup: float = 0.2  # share of the steps
    label_smoothing: float = 0.0
    dihedral: bool = False  # show an image in its eight rotations and reflections, in turn
    shift: int = 0  # pixels of 28, at most so far in each direction, mirrored at the border
    cutout: int = 0  # pixels of 28, side of a square set to mid-grey
    focus: float = 0.0  # after the warm-up, share of the images a pass, half of it the hardest
    views: int = 1  # rotations and reflections that a prediction averages over
    precision: str = "float32"  # or "bfloat16"

    def __post_init__(self) -> None:
        """Refuse a setting that would do nothing: two runs that differ in it would be the same."""
        if self.focus and self.epochs < 2:
            raise UserError("--focus does nothing in one epoch: the first pass is over all images")
        if self.focus and self.warmup >= 1 - ALL_AT_THE_END:
            raise UserError(
                f"--focus does nothing with --warmup {self.warmup:g}: until then, and in the last "
                f"{ALL_AT_THE_END:.0%} of the steps, a pass is over all images"
            )
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
                raise UserError(f"--{flag} does nothing without --{partner} {needed}")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Recipe:
        """The recipe that the flags of the same names describe."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: getattr(args, name) for name in names if hasattr(args, name)})
