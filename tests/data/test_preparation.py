"""Which part of an image is kept: the cell, or the whole image."""

import contextlib

import numpy as np
import pytest
from drawn import NUCLEUS, field
from PIL import Image

from bloodcells.data import official_chain
from bloodcells.data.official_chain import BadImageError
from bloodcells.data.preparation import prepare


def shows_the_nucleus(pixels):
    """Whether the middle is of the nucleus's colour."""
    return abs(pixels[14, 14].astype(int) - NUCLEUS).max() < 20


@pytest.mark.parametrize("side", [64, 128, 224])
def test_squares_of_sizes_of_medmnist_are_taken_whole(side):
    image = field((side, side), (0.7 * side, 0.6 * side, 0.12 * side))
    whole = prepare(image, 28, "auto")
    assert (whole.by_size, whole.foreign) == (True, True)  # foreign: it may be anybody's
    assert (whole.pixels == prepare(image, 28, "none").pixels).all()
    framed = prepare(image, 28, "cell")
    assert not framed.by_size
    assert shows_the_nucleus(framed.pixels)
    for other in ((side, side + 1), (side + 1, side + 1)):
        assert not prepare(image.resize(other), 28, "auto").by_size


@pytest.mark.parametrize(
    ("size", "nucleus"), [((28, 28), (19, 10, 4)), ((360, 363), (215, 105, 25))]
)
def test_cell_frames_images_of_the_data_set_s_sizes_too(size, nucleus):
    image = field(size, nucleus)
    framed, usual = prepare(image, 28, "cell"), prepare(image, 28, "auto")
    assert (framed.foreign, usual.foreign) == (True, False)
    assert shows_the_nucleus(framed.pixels)
    assert not shows_the_nucleus(usual.pixels)
    assert np.asarray(usual.pixels).shape == (28, 28, 3)


def test_values_are_rounded_and_clipped():
    values = np.array([-3, 0.4, 0.6, 254.7, 300])
    assert official_chain.to_bytes(values).tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize(("side", "usable"), [(14, True), (13, False)])
def test_under_half_the_final_side_is_too_few(side, usable):
    with contextlib.nullcontext() if usable else pytest.raises(BadImageError, match="too few"):
        prepare(Image.new("RGB", (side, 90), "white"), 28, "none")
