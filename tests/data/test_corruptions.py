"""Corruptions of images: repeatable, of one shape, and worse with severity."""

import itertools

import numpy as np
import pytest
from skimage.color import rgb_from_bex

from bloodcells.data import corruptions, official_chain, synthetic_cells

CELLS = synthetic_cells.make()["test"][0][:16]
DRAWN = {  # how many results the draws of many copies of one image have
    "motion": 4,
    "stain": 4,
    "colour shift": 8,
    "brightness": 2,
    **dict.fromkeys(("bubbles", "specks", "noise"), 64),
}


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


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_draws_are_an_image_s_own_and_the_seed_s(name):
    """No image's change depends on the others, on the severity, or on anything but the seed."""
    copies = np.repeat(CELLS[3:4], 64, axis=0)
    changed = corruptions.corrupt(copies, name, 3, seed=0)
    assert len({one.tobytes() for one in changed}) == DRAWN.get(name, 1)
    other = corruptions.corrupt(copies, name, 3, seed=1)
    assert (other != changed).any() == (name in DRAWN)
    if name not in DRAWN:
        alone = [corruptions.corrupt(one[None], name, 3, seed=0)[0] for one in CELLS]
        assert (corruptions.corrupt(CELLS, name, 3, seed=0) == alone).all()


def test_an_image_keeps_its_draws_at_all_severities():
    before = CELLS.mean((1, 2, 3))
    brighter = [
        corruptions.corrupt(CELLS, "brightness", severity, seed=0).mean((1, 2, 3)) > before
        for severity in corruptions.SEVERITIES
    ]
    assert set(brighter[0]) == {False, True}
    assert (np.array(brighter) == brighter[0]).all()


def test_spots_and_traces_scale_with_the_side():
    found = {}
    for side in (28, 56):
        light, dot = np.full((2, 64, side, side, 3), 200, np.uint8)
        dot[:] = 0
        dot[:, side // 2, side // 2] = 255
        for name, images in (("specks", light), ("bubbles", light), ("motion", dot)):
            changed = (corruptions.corrupt(images, name, 4, seed=0) != images).any(3)
            found[name, side] = changed.mean() * (1 if name != "motion" else side)
    for name in ("specks", "bubbles", "motion"):
        assert found[name, 56] == pytest.approx(found[name, 28], rel=0.4), name


def test_bubbles_are_bright_and_noise_is_coloured():
    grey = np.full((16, 28, 28, 3), 160, np.uint8)
    for name in ("bubbles", "specks"):  # which lie elsewhere in each image
        hit = (corruptions.corrupt(grey, name, 3, seed=0) != 160).any(3)
        assert hit.any(0).mean() > 2 * hit.mean(), name
    bubbles = corruptions.corrupt(grey, "bubbles", 3, seed=0)
    assert (bubbles > 220).sum() > (bubbles < 140).sum() > 0
    noisy = corruptions.corrupt(grey, "noise", 3, seed=0).astype(float) - 160
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("dye", [0, 1])
def test_a_stronger_stain_is_more_of_the_same_dye(dye):
    """An image of one dye alone: its optical density changes by a factor, not in its colour."""
    density = 0.8 * rgb_from_bex[dye]
    image = np.tile(official_chain.to_bytes(255 * np.exp(-density)), (32, 8, 8, 1))
    changed = corruptions.corrupt(image, "stain", 4, seed=0)[:, 0, 0]
    factors = np.log(changed / 255) / -density
    assert factors == pytest.approx(factors.mean(1, keepdims=True).repeat(3, 1), rel=0.06)
    assert abs(np.log(factors.mean(1))) == pytest.approx([0.45] * 32, abs=0.05)
