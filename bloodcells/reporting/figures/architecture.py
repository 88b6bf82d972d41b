"""A network as a row of boxes, from the layers that architecture.py found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.patches import Rectangle

from bloodcells.reporting.figures.style import BLUE, GREEN, GREY, ORANGE, page


@dataclass
class Layer:
    """One box of the drawing: a module, or a block of modules drawn as one."""

    words: list[str]
    shape: tuple[int, ...]  # of the output, for one image
    parameters: int
    operations: int  # multiplications and additions for one image
    inside: list[str] = field(default_factory=list)


def draw(path: Path, title: str, layers: list[Layer]) -> None:
    """One box per layer: taller for larger maps, wider for more channels; numbers below."""
    image_size = layers[0].shape[1]
    with page(path, max(6.5, 0.9 + len(layers)), 3.0, None) as figure:
        axes = figure.subplots()
        for place, layer in enumerate(layers):
            width, height = box(layer.shape, image_size)
            left = place - width / 2
            colour = BLUE if layer.inside else ORANGE if layer.parameters else GREEN
            axes.add_patch(
                Rectangle(
                    (left, -height / 2), width, height, fc=colour, ec="black", lw=0.6, alpha=0.6
                )
            )
            if place:
                begin = place - 1 + box(layers[place - 1].shape, image_size)[0] / 2
                axes.annotate(
                    "",
                    (left, 0),
                    (begin, 0),
                    arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 0.8},
                )
            axes.text(place, 0.72, "\n".join(layer.words), ha="center", va="bottom", size=6.5)
            below = ["·".join(map(str, layer.shape))]
            below += [f"{number(layer.parameters)} par."] if layer.parameters else []
            below += [f"{number(layer.operations)} op."] if layer.operations else []
            axes.text(place, -0.72, "\n".join(below), ha="center", va="top", size=6.5)
        axes.set(xlim=(-0.7, len(layers) - 0.3), ylim=(-1.25, 1.2))
        axes.set_axis_off()
        axes.set_title(title)
        kinds = [(ORANGE, "has weights"), (GREEN, "has none")]
        if any(layer.inside for layer in layers):
            kinds.insert(1, (BLUE, "block with weights"))
        handles = [Rectangle((0, 0), 1, 1, fc=colour, ec="black", lw=0.6, alpha=0.6, label=words)
                   for colour, words in kinds]  # fmt: skip
        axes.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=6.5)
        figure.supxlabel(
            "height: side of the map, width: channels (lists of numbers: not to scale); "
            "par.: parameters, op.: multiplications and additions",
            size=6.5,
        )


def box(shape: tuple[int, ...], image_size: int) -> tuple[float, float]:
    """Width and height of a layer's box: its channels and its side, on square-root scales."""
    channels, side = (shape[0], shape[1]) if len(shape) > 1 else (16, 1)
    height = 0.12 + 0.98 * math.sqrt(side / image_size)
    return 0.1 + 0.5 * math.sqrt(min(channels, 512) / 512), height


def number(value: int) -> str:
    """A number to three digits, with a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # three digits of it round up to the unit
            return f"{value / size:.3g} {unit}"
    return str(value)
