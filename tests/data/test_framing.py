"""The cell is found in whatever surrounds it, and cut as the training images show theirs."""

import numpy as np
import pytest
from drawn import BACKGROUND, NUCLEUS, RED_CELL, field
from PIL import Image, ImageDraw
from skimage.morphology import closing, disk

from bloodcells.data import framing


@pytest.mark.parametrize("size", [(100, 100), (300, 200), (720, 576)])
def test_a_nucleus_is_found_wherever_it_is(size):
    x, y, radius = 0.6 * size[0], 0.4 * size[1], 0.15 * min(size)
    image = field(size, (x, y, radius))
    for place in ((20, 30), (size[0] - 30, size[1] - 20)):  # red cells are none
        ImageDraw.Draw(image).ellipse((*place, place[0] + 25, place[1] + 25), RED_CELL)
    square = framing.find_cell(image)
    assert (square.x, square.y) == pytest.approx((x, y), abs=0.02 * max(size))
    expected = max(radius * (np.pi / framing.SHARE) ** 0.5, framing.LEAST * min(size))
    assert square.side == pytest.approx(expected, rel=0.1)


def test_lobes_belong_together():
    one = framing.find_cell(field((100, 100), (50, 50, 14)))
    two = framing.find_cell(field((100, 100), (40, 50, 9), (60, 50, 9)))
    assert (two.x, two.y) == pytest.approx((50, 50), abs=2)
    assert two.side == pytest.approx(one.side, rel=0.2)


def test_other_stains_and_lights(real_dataset):
    """Official images, darker, warmer and paler, are framed about where they are."""
    for image in real_dataset.val.images[:40]:
        for gain, lift in (((1, 1, 1), 0), ((0.8, 0.6, 0.6), 0), ((0.4, 0.4, 0.4), 110)):
            other = np.clip(image * np.array(gain) + lift, 0, 255).astype(np.uint8)
            square = framing.find_cell(Image.fromarray(other).resize((112, 112)))
            assert square is not None
            assert abs(np.array([square.x, square.y]) - 56).max() < 25


def test_nothing_is_found_where_nothing_is():
    rng = np.random.default_rng(0)
    assert framing.find_cell(Image.new("RGB", (100, 100), BACKGROUND)) is None
    assert framing.find_cell(Image.new("L", (100, 100), 77).convert("RGB")) is None
    noisy = np.array(BACKGROUND) + rng.normal(0, 3, (100, 100, 3))
    assert framing.find_cell(Image.fromarray(noisy.astype(np.uint8))) is None
    assert framing.find_cell(field((100, 100), (50, 50, 30), colour=RED_CELL)) is None


@pytest.mark.parametrize("colour", [(120, 0, 61), (0, 0, 0), (255, 255, 255), (13, 7, 200)])
def test_one_colour_everywhere(colour):
    image = Image.new("RGB", (599, 741), colour)
    assert framing.find_cell(image) is None
    assert framing.find_cells(image) == []


@pytest.mark.parametrize("radius", [1, 4, 20])
def test_gaps_are_closed_by_a_disk(radius):
    found = np.random.default_rng(0).random((60, 50)) < 0.02
    expected = closing(np.pad(found, radius), disk(radius))[radius:-radius, radius:-radius]
    assert (framing.joined(found, radius) == expected).all()


def test_a_cut_beyond_the_border_is_mirrored():
    values = np.arange(100, dtype=np.uint8).reshape(10, 10)
    image = Image.merge("RGB", [Image.fromarray(values)] * 3)
    inside = np.asarray(framing.cut(image, framing.Square(5, 5, 4)))[..., 0]
    assert (inside == values[3:7, 3:7]).all()
    outside = np.asarray(framing.cut(image, framing.Square(1, 5, 6)))[..., 0]
    assert (outside[:, :2] == values[2:8, 1::-1]).all()
    assert (outside[:, 2:] == values[2:8, :4]).all()
    assert framing.cut(image, framing.Square(5, 5, 60)).size == (60, 60)


def test_cells_of_a_field():
    inside = [(100, 100, 30), (300, 120, 24), (500, 300, 34), (120, 380, 28)]
    platelets, at_the_border = [(200, 200, 5), (400, 60, 4)], [(640, 200, 30)]
    image = field((640, 480), *inside, *platelets, *at_the_border)
    ImageDraw.Draw(image).ellipse((250, 300, 310, 360), RED_CELL)
    found = {(round(s.x, -1), round(s.y, -1)): s for s in framing.find_cells(image)}
    assert set(found) == {(x, y) for x, y, _ in inside}
    for x, y, radius in inside:
        side = radius * (np.pi / framing.SHARE) ** 0.5
        assert found[x, y].side == pytest.approx(side, rel=0.1)
    assert framing.find_cells(field((640, 480))) == []


def test_cells_of_a_large_field_keep_their_places():
    image = field((3000, 2000), (900, 1500, 90), (2000, 400, 80))
    places = [(s.x, s.y) for s in framing.find_cells(image)]
    assert places == [pytest.approx((2000, 400), abs=6), pytest.approx((900, 1500), abs=6)]


def test_official_cells_are_found_in_a_field(real_dataset):
    """Fields composed of official images: at most one cell in fifty is missed or made up."""
    rng = np.random.default_rng(0)
    white = ~np.isin(real_dataset.val.labels, [2, 7])  # neither erythroblasts nor platelets
    images, hits, found = real_dataset.val.images[white], 0, 0
    fade = np.clip(2 - np.hypot(*np.mgrid[-1:1:90j, -1:1:90j]) / 0.5, 0, 1)[..., None]
    for chosen in rng.choice(len(images), (5, 12), replace=False):
        canvas = np.full((420, 560, 3), np.median(images[:, 0].reshape(-1, 3), 0))
        places = [(20 + 130 * (n % 4), 20 + 130 * (n // 4)) for n in range(12)]
        for (x, y), row in zip(places, chosen, strict=True):
            cell = np.asarray(Image.fromarray(images[row]).resize((90, 90)))
            part = canvas[y : y + 90, x : x + 90]
            part += fade * (cell - part)
        squares = framing.find_cells(Image.fromarray(canvas.astype(np.uint8)))
        found += len(squares)
        hits += sum(
            any(np.hypot(s.x - x - 45, s.y - y - 45) < 30 for s in squares) for x, y in places
        )
    assert hits >= 59
    assert found <= hits + 1


def smear(*more):
    """A field of 28 nuclei apart, and more disks."""
    apart = [(60 + 90 * (n % 7), 60 + 90 * (n // 7), 16) for n in range(28)]
    return field((760, 760), *apart, *more)


@pytest.mark.parametrize("clumped", [2, 6, 12])
def test_a_clump_does_not_hide_the_other_cells(clumped):
    clump = [(120 + 24 * n, 550, 16) for n in range(clumped)]
    assert len(framing.find_cells(smear(*clump))) == 28 + 1


def test_a_stained_border_does_not_hide_the_cells():
    image = smear()
    ImageDraw.Draw(image).rectangle((0, 700, 760, 760), NUCLEUS)
    assert len(framing.find_cells(image)) == 28
    only = Image.new("RGB", (300, 300), BACKGROUND)
    ImageDraw.Draw(only).rectangle((0, 200, 300, 300), NUCLEUS)
    assert framing.find_cells(only) == []


@pytest.mark.parametrize(("radius", "side"), [(12, 0.3 * 200), (85, 200)])
def test_the_square_is_neither_tiny_nor_larger_than_the_image(radius, side):
    """Of a platelet's granules, and of a nucleus that fills the image."""
    assert framing.find_cell(field((300, 200), (150, 100, radius))).side == pytest.approx(side)


@pytest.mark.parametrize("size", [(200, 200), (480, 200), (200, 480)])
def test_of_two_cells_that_in_the_middle(size):
    x, y = size[0] / 2, size[1] / 2
    square = framing.find_cell(field(size, (x, y + 10, 20), (30, 30, 22)))
    assert (square.x, square.y) == pytest.approx((x, y + 10), abs=4)


@pytest.mark.parametrize("place", [(0, 240), (640, 240), (320, 0), (320, 480)])
def test_a_cell_that_the_border_cuts_is_left_out(place):
    image = field((640, 480), (200, 200, 30), (420, 300, 30), (*place, 30))
    found = {(round(s.x, -1), round(s.y, -1)) for s in framing.find_cells(image)}
    assert found == {(200, 200), (420, 300)}


def test_specks_are_no_cells():
    assert framing.find_cell(field((96, 96), (48, 48, 1))) is None
    specks = [(x, y, 1) for x in (100, 300, 500) for y in (100, 300)]
    assert framing.find_cells(field((640, 480), *specks)) == []


def test_of_two_cells_as_near_that_with_more_stain():
    image = field((200, 200), (70, 100, 16))
    paler = (116, 73, 157)  # by a tenth; a little larger
    ImageDraw.Draw(image).ellipse((113, 83, 147, 117), paler)
    assert framing.find_cell(image).x == pytest.approx(70, abs=3)


def test_a_thread_at_a_nucleus_is_none_of_it():
    image = field((100, 100), (50, 50, 14))
    alone = framing.find_cell(image)
    ImageDraw.Draw(image).line((50, 50, 95, 8), NUCLEUS, 3)
    square = framing.find_cell(image)
    assert (square.x, square.y) == pytest.approx((alone.x, alone.y), abs=1)
    assert square.side == pytest.approx(alone.side, rel=0.05)


def test_lobes_of_a_cell_of_a_field_count_with_what_lies_between_them():
    (square,) = framing.find_cells(field((640, 480), (280, 200, 18), (326, 200, 18)))
    assert (square.x, square.y) == pytest.approx((303, 200), abs=1)
    hull = np.pi * 18**2 + 46 * 36
    assert square.side == pytest.approx((hull / framing.SHARE) ** 0.5, rel=0.06)


def test_cells_are_where_they_are_drawn():
    """Half a working pixel is half a percent of the side."""
    square = framing.find_cell(field((959, 959), (479.5, 479.5, 150)))
    assert (square.x, square.y) == pytest.approx((480, 480), abs=2.5)
    (square,) = framing.find_cells(field((1536, 1536), (768, 768, 150)))
    assert (square.x, square.y) == pytest.approx((768.5, 768.5), abs=0.5)
