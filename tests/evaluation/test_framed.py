"""Official images framed as another laboratory's are: what is cut, and what is left out."""

import numpy as np
import pytest

from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Split
from bloodcells.evaluation import framed


def cell(radius):
    """A disk of a nucleus's colour, right of the middle of a light image."""
    image = np.full((28, 28, 3), 230, np.uint8)
    y, x = np.mgrid[:28, :28]
    image[np.hypot(y - 13.5, x - 16.5) < radius] = (90, 40, 150)
    return image


def test_every_nucleus_takes_the_same_share_of_the_middle():
    images = Split(np.stack([cell(4), cell(5), cell(7)]), np.array([5, 4, 3]))
    found = framed.frame(images)
    assert list(found.labels) == [5, 4, 3]
    dark = found.images[..., 1] < 135
    assert dark.mean((1, 2)) == pytest.approx([0.29] * 3, abs=0.03)
    middle = (dark * np.arange(28)).sum((1, 2)) / dark.sum((1, 2))
    assert middle == pytest.approx([13.5] * 3, abs=1)


def test_images_without_a_nucleus_are_left_out():
    blank = np.full((28, 28, 3), 230, np.uint8)
    found = framed.frame(Split(np.stack([blank, cell(6)]), np.array([1, 2])))
    assert list(found.labels) == [2]
    assert framed.frame(Split(blank[None], np.array([1]))) is None


def test_how_many_have_no_nucleus_is_told_by_class():
    blank = np.full((28, 28, 3), 230, np.uint8)
    y, x = np.mgrid[:28, :28]
    cell = np.where((np.hypot(y - 13.5, x - 16.5) < 6)[..., None], (90, 40, 150), blank)
    images = Split(np.stack([blank, cell, cell]).astype(np.uint8), np.array([1, 2, 1]))
    lost = framed.left_out(images, framed.frame(images))
    assert lost == dict.fromkeys(bloodmnist.CLASS_NAMES, 0) | {"eosinophil": 1}
