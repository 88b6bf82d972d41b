"""An image prepared as the official images were.

They were made from photographs of seven sizes, most of them 360 x 363 pixels
(Acevedo et al., 2020): the middle 200 x 200 pixels, a bilinear antialiased resize, then JPEG
compression at the final size, quality 75 with 4:2:0 chroma. A network trained on such pixels
expects their 8 x 8 blocks and half-resolution colour, so every step is repeated here. In other
images the cell is found and framed first (framing.py).
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from bloodcells.data.framing import cut, find_cell

PHOTOGRAPHS = {  # width and height of the data set's source photographs
    *((359, 360), (360, 360), (360, 361), (360, 363)),
    *((361, 360), (362, 360), (366, 369)),
}
KEPT = 200  # pixels of a photograph's side that the data set keeps, in the middle
QUALITY = 75


class BadImageError(Exception):
    """Why one image cannot be used; the others are still read."""


def prepare(image: Image.Image, size: int, frame: str) -> tuple[np.ndarray, bool]:
    """Prepare an RGB image as uint8 (size, size, 3), by the steps that made the official images.

    Also returned is whether it is foreign: neither of the final size nor a photograph of the data
    set's.

    `frame` says what part is kept. "auto": of a photograph whose size is one of the data set's,
    the part that the data set keeps; of any other image, the square that frames the cell.
    "centre": the middle square. "none": the whole image, padded to a square with its border's
    colour. A number: the middle square with that side, in pixels, cut before all else. An image
    that then has the final size is left unchanged. Raises `BadImageError` if the shorter side is
    under half the final size, if the image is smaller than the number, or if no cell is found.
    """
    if frame.isdigit():
        image = middle(image, int(frame))
    if image.size == (size, size):
        return np.asarray(image), False
    if min(image.size) < size / 2:
        raise BadImageError(f"{image.width} x {image.height} pixels: too few to recognise a cell")
    foreign = not {image.size, image.size[::-1]} & PHOTOGRAPHS
    if frame == "auto" and not foreign:
        image = middle(image, KEPT)
    elif frame == "auto":
        if (square := find_cell(image)) is None:
            raise BadImageError("no stained cell found; --frame none takes the whole image")
        image = cut(image, square)
    elif frame == "centre":
        image = middle(image, min(image.size))
    image = fit(image, size)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")), foreign


def fit(image: Image.Image, size: int) -> Image.Image:
    """Resize to `size` along the longer side, and pad to a square with the border's colour."""
    scale = size / max(image.size)
    sides = [max(1, round(side * scale)) for side in image.size]
    reduced = image.resize(sides, Image.Resampling.BILINEAR)
    if reduced.width == reduced.height:
        return reduced
    square = Image.new("RGB", (size, size), border_colour(image))
    square.paste(reduced, ((size - reduced.width) // 2, (size - reduced.height) // 2))
    return square


def middle(image: Image.Image, side: int) -> Image.Image:
    """The middle square of `side` pixels, placed as torchvision's `CenterCrop` places it.

    Raises `BadImageError` for a smaller image.
    """
    if min(image.size) < side:
        raise BadImageError(f"{image.width} x {image.height} pixels: smaller than --crop {side}")
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def border_colour(image: Image.Image) -> tuple[int, ...]:
    """The median colour along the border."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in np.median(border, axis=0))
