"""The steps by which the official images were made, found by repeating them on all photographs.

The photographs have seven sizes, most of them 360 x 363 pixels (Acevedo et al., 2020): the middle
200 x 200 pixels, a bilinear antialiased resize, then JPEG compression at the final size, quality 75
with 4:2:0 chroma. A network trained on such pixels expects their 8 x 8 blocks and half-resolution
colour, so every step is repeated for other images too.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

PHOTOGRAPHS = {  # width and height of the data set's source photographs
    *((359, 360), (360, 360), (360, 361), (360, 363)),
    *((361, 360), (362, 360), (366, 369)),
}
KEPT = 200  # pixels of a photograph's side that the data set keeps, in the middle
QUALITY = 75


class BadImageError(Exception):
    """Why one image cannot be used; the others are still read."""


def compressed(image: Image.Image) -> Image.Image:
    """The image after JPEG compression."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    with Image.open(file) as result:
        return result.convert("RGB")


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


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Values rounded and clipped to uint8, as pixels are stored."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
