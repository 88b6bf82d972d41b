"""Images that show no cells."""

import numpy as np
import pytest

from bloodcells.data import out_of_distribution


@pytest.mark.parametrize("size", [28, 64, 224])
def test_images_of_no_cells(size):
    made = out_of_distribution.make(3, size, seed=0)
    again = out_of_distribution.make(3, size, seed=0)
    for kind, images in made.items():
        assert (images.shape, images.dtype) == ((3, size, size, 3), np.uint8), kind
        assert (images == again[kind]).all()
        assert (images[0] != images[1]).any()


def test_images_of_no_cells_depend_on_the_seed():
    first, other = (out_of_distribution.make(3, 28, seed) for seed in (0, 1))
    assert all((first[kind] != other[kind]).any() for kind in first)
