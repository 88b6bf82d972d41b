"""A user's image prepared as the official images were; in most, the cell is framed first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from bloodcells.data.framing import cut, find_cell
from bloodcells.data.official_chain import (
    KEPT,
    PHOTOGRAPHS,
    BadImageError,
    compressed,
    fit,
    middle,
)

NO_CELL = "no stained cell found"
# A cell framed by its nucleus loses its size, by which platelets, erythroblasts and immature
# granulocytes are known. So these sizes of MedMNIST's images are not framed.
KEPT_WHOLE = {(28, 28), (64, 64), (128, 128), (224, 224)}


class Prepared(NamedTuple):
    """An image as the network takes it."""

    pixels: np.ndarray  # uint8 (size, size, 3)
    foreign: bool  # neither given in this size nor the data set's photograph, cut as it cuts them
    by_size: bool = False  # not framed for its size alone, a photograph's or MedMNIST's


def prepare(image: Image.Image, size: int, frame: str) -> Prepared:
    """Prepare an RGB image by the steps that made the official images.

    `frame` says what part is kept. "auto": of a photograph whose size is one of the data set's,
    the part that the data set keeps; a square of one of MedMNIST's sizes as a whole; of any other
    image, the square that frames the cell. "cell": that square of every image. "centre": the middle
    square. "none": the whole image, padded to a square with its border's colour. A number: the
    middle square with that side, in pixels, cut before all else. But for "cell", an image that then
    has the final size is left unchanged. Raises `BadImageError` if the shorter side is under half
    the final size, if the image is smaller than the number, or if no cell is found.
    """
    final = (size, size)
    if image.size == final and frame in ("auto", "centre", "none", str(size)):
        return Prepared(np.asarray(image), foreign=False)
    photograph = bool({image.size, image.size[::-1]} & PHOTOGRAPHS)
    by_size = frame == "auto" and (photograph or image.size in KEPT_WHOLE)
    if photograph and frame == "auto":
        frame = str(KEPT)
    foreign = not (photograph and frame == str(KEPT))
    if frame.isdigit():
        image = middle(image, int(frame))
    if image.size == final and frame != "cell":
        return Prepared(np.asarray(image), foreign, by_size)
    if min(image.size) < size / 2:
        raise BadImageError(f"{image.width} x {image.height} pixels: too few to recognise a cell")
    if frame in ("auto", "cell") and not by_size:
        if (square := find_cell(image)) is None:
            raise BadImageError(NO_CELL)
        image = cut(image, square)
    elif frame == "centre":
        image = middle(image, min(image.size))
    return Prepared(np.asarray(compressed(fit(image, size))), foreign, by_size)
