"""Corruptions of images: repeatable, of one shape, and worse with severity."""

import itertools

import numpy as np
import pytest

from bloodcells.data import corruptions, synthetic_cells

CELLS = synthetic_cells.make()["test"][0][:16]


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_grows_with_severity(name):
    distances = []
    for severity in corruptions.SEVERITIES:
        changed = corruptions.corrupt(CELLS, name, severity, seed=0)
        assert (changed.shape, changed.dtype) == (CELLS.shape, np.uint8)
        assert (changed == corruptions.corrupt(CELLS, name, severity, seed=0)).all()
        distances.append(np.sqrt(((changed.astype(float) - CELLS) ** 2).mean()))
    assert distances[0] > 0
    assert all(one < other for one, other in itertools.pairwise(distances))


def test_blur_keeps_the_mean_and_scales_with_the_side():
    large = CELLS.repeat(2, axis=1).repeat(2, axis=2)
    small, double = (
        corruptions.corrupt(images, "defocus", 4, seed=0).astype(float) for images in (CELLS, large)
    )
    assert small.mean() == pytest.approx(CELLS.mean(), abs=2)
    assert abs(double[:, ::2, ::2] - small).mean() < abs(CELLS - small).mean() / 2
