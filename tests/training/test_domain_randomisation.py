"""Domain randomisation changes its share of a batch, each image in its own way."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from bloodcells.cli.recipe import Recipe
from bloodcells.data import synthetic_cells
from bloodcells.data.bloodmnist import normalise
from bloodcells.training import augmentation, domain_randomisation
from bloodcells.training.domain_randomisation import CHANGES, randomise

CELLS = torch.from_numpy(synthetic_cells.make()["train"][0][:64])


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_only_its_share_is_changed(share):
    images, count = normalise(CELLS), round(64 * share)
    torch.manual_seed(0)
    changed = randomise(images, share)
    assert changed.shape == images.shape
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(changed[count:], images[count:])
    different = (changed != images).flatten(1).any(1)[:count].float().mean()
    assert different > 0.95
    assert changed.isfinite().all()
    assert changed.abs().max() <= 1
    levels = (changed[:count] + 1) * 127.5  # as a file would have them
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_the_same_seed_makes_the_same_images():
    torch.manual_seed(1)
    first = randomise(normalise(CELLS), 0.5)
    assert not torch.equal(first, randomise(normalise(CELLS), 0.5))
    torch.manual_seed(1)
    assert torch.equal(first, randomise(normalise(CELLS), 0.5))


@pytest.mark.parametrize("change", [change for change, *_ in CHANGES], ids=lambda c: c.__name__)
@pytest.mark.parametrize("size", [28, 64])
def test_each_change_is_an_image_s_own(change, size):
    one = torch.nn.functional.interpolate((normalise(CELLS[:1]) + 1) / 2, size)
    images = one.expand(16, -1, -1, -1).clone()
    torch.manual_seed(0)
    changed = change(images)
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    for_the_batch = (domain_randomisation.surroundings, domain_randomisation.fewer_pixels)
    if change not in (*for_the_batch, domain_randomisation.framed):  # as the image's nucleus says
        assert len({tuple(image.flatten().tolist()) for image in changed}) > 10
    if change in (domain_randomisation.blur, domain_randomisation.motion):
        assert changed.mean() == pytest.approx(float(images.mean()), abs=0.02)


@pytest.mark.parametrize("size", [28, 112])
def test_blur_reaches_as_far_at_any_size(size, monkeypatch):
    """A dot, under the widest blur: its deviation is 1.4 pixels of 28."""
    dot = torch.zeros(1, 3, size, size)
    dot[..., size // 2, size // 2] = 1
    monkeypatch.setattr(
        domain_randomisation, "uniform", lambda images, low, high, *shape: torch.full((1, 1), high)
    )
    spread = domain_randomisation.blur(dot)[0, 0].sum(0)
    places = (torch.arange(size) - size // 2) * 28 / size
    assert float((spread * places**2).sum()) ** 0.5 == pytest.approx(1.4, rel=0.03)


@pytest.mark.parametrize("size", [28, 112])
def test_motion_leaves_no_gaps_at_any_size(size, monkeypatch):
    """A dot, moved by five pixels of 28 to either side."""
    dot = torch.zeros(1, 3, size, size)
    dot[..., size // 2, size // 2] = 1
    reaches = iter([torch.zeros(1), torch.full((1,), 5.0)])  # the angle; half the way
    monkeypatch.setattr(domain_randomisation, "uniform", lambda *_: next(reaches))
    trace = domain_randomisation.motion(dot)[0, 0, size // 2] > 0.001
    (moved,) = trace.nonzero(as_tuple=True)
    assert int(trace.sum()) == int(moved.max() - moved.min()) + 1
    assert int(trace.sum()) == pytest.approx(10 * size / 28, rel=0.15)


def test_grey_stays_grey_under_another_camera_but_for_its_white_balance():
    grey = torch.linspace(0.2, 0.8, 28).expand(8, 3, 28, 28).clone()
    torch.manual_seed(0)
    changed = domain_randomisation.colour(grey)
    ratio = (changed[:, 0] / changed[:, 1].clamp_min(1e-3)).flatten(1)
    assert float(ratio.std(1).median()) < 0.1


def test_rotation_and_zoom_keep_the_middle():
    image = torch.zeros(64, 3, 28, 28)
    image[:, :, 11:17, 11:17] = 1
    torch.manual_seed(0)
    moved = domain_randomisation.geometry(image)
    y, x = np.mgrid[:28, :28]
    weight = moved[:, 0].numpy()
    centre = [(weight * axis).sum((1, 2)) / weight.sum((1, 2)) for axis in (y, x)]
    assert np.abs(np.array(centre) - 13.5).max() < 9
    area = weight.sum((1, 2)) / 36
    assert 0.3 < area.min() < 0.6
    assert 1.6 < area.max() < 2.6


def test_without_it_nothing_of_it_is_used(monkeypatch):
    """As `code_hash.ONLY_WITH` says of results without domain randomisation."""

    def refuse(*_):
        raise AssertionError("is used")

    monkeypatch.setattr(augmentation, "randomise", refuse)
    monkeypatch.setattr(augmentation, "changed_count", refuse)
    labels = torch.arange(64) % 8

    def shown(share):
        recipe = Recipe(epochs=1, domain_randomisation=share)
        batches = augmentation.Batches(CELLS, labels, recipe, torch.Generator())
        for images, _ in batches:
            batches.record(torch.zeros(len(images)))

    shown(0.0)
    with pytest.raises(AssertionError, match="is used"):
        shown(0.5)


def test_a_framed_cell_loses_its_size():
    """Dark nuclei of three sizes on a light ground take the same share of the image."""
    axis = torch.arange(28) - 13.5
    distance = torch.hypot(axis[:, None] - 3, axis + 2)  # not in the middle
    images = torch.stack([torch.full((3, 28, 28), 0.8) for _ in range(48)])
    for number, image in enumerate(images):
        nucleus = distance < (4, 6, 8)[number % 3]
        image[:, nucleus] = torch.tensor([0.3, 0.1, 0.6])[:, None]
    torch.manual_seed(0)
    dark = (domain_randomisation.framed(images)[:, 1] < 0.45).float()
    share = dark.mean((1, 2)).view(-1, 3)
    assert share.mean(0) == pytest.approx([0.28] * 3, abs=0.05)
    assert share.std(0).min() > 0.02  # not always the same square
    middle = (dark * axis).sum((1, 2)) / dark.sum((1, 2))
    assert middle.abs().max() < 1.5


def test_small_batches_are_changed_as_often_as_large_ones():
    torch.manual_seed(0)
    images = torch.zeros(2, 3, 4, 4)
    changed = [
        domain_randomisation.sometimes(lambda part: part + 1, 0.3, images).mean()
        for _ in range(500)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize(("few", "many"), [(14, 28), (7, 28), (1, 28), (28, 28), (32, 64)])
def test_pixels_are_taken_together_by_their_areas(few, many):
    image = torch.rand(1, 1, many, many)
    mean = domain_randomisation.areas(few, many, torch.device("cpu"))
    expected = torch.nn.functional.avg_pool2d(image, many // few)
    torch.testing.assert_close(mean @ image @ mean.T, expected)


def test_parts_of_pixels_count_by_their_share():
    mean = domain_randomisation.areas(2, 3, torch.device("cpu"))
    torch.testing.assert_close(mean, torch.tensor([[2, 1, 0], [0, 1, 2]]) / 3)


def test_the_flag_names_the_groups_of_changes():
    field = next(field for field in fields(Recipe) if field.name == "unchanged")
    assert set(field.metadata["of"]) == {"none", *(group for *_, group in CHANGES)}


@pytest.mark.parametrize("group", sorted({group for *_, group in CHANGES}))
def test_a_group_of_changes_can_be_left_out(group, monkeypatch):
    def refuse(images):
        raise AssertionError("is left out")

    kept = [(refuse if own == group else change, 1.0, own) for change, _, own in CHANGES]
    monkeypatch.setattr(domain_randomisation, "CHANGES", kept)
    randomise(normalise(CELLS), 0.5, unchanged=group)
    with pytest.raises(AssertionError):
        randomise(normalise(CELLS), 0.5)


@pytest.mark.parametrize("change", [change for change, *_ in CHANGES], ids=lambda c: c.__name__)
def test_no_change_depends_on_the_other_images(change):
    images = (normalise(CELLS[:16]) + 1) / 2
    others = torch.cat([images[:1], 1 - images[1:]])
    found = []
    for part in (images, others):
        torch.manual_seed(3)
        found.append(change(part)[0])
    same = torch.allclose(*found, atol=1e-5)
    assert same == (change is not domain_randomisation.surroundings)


def test_surroundings_are_another_image_s_and_the_middle_its_own():
    shades = torch.linspace(0, 1, 32)
    images = shades[:, None, None, None].expand(-1, 3, 28, 28).clone()
    torch.manual_seed(0)
    changed = domain_randomisation.surroundings(images)
    torch.testing.assert_close(changed[:, 0, 14, 14], shades, atol=0.01, rtol=0)
    assert (abs(changed[:, 0, 0, 0] - shades) > 0.01).float().mean() > 0.9


def test_geometry_mirrors_half_and_keeps_the_size_within_its_bounds(monkeypatch):
    kept = []
    monkeypatch.setattr(domain_randomisation, "sampled", lambda images, theta: kept.append(theta))
    torch.manual_seed(0)
    domain_randomisation.geometry(torch.zeros(4000, 3, 2, 2))
    (theta,) = kept
    areas = torch.linalg.det(theta[:, :, :2])
    assert float((areas < 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    size = abs(areas).rsqrt()
    assert (float(size.min()), float(size.max())) == pytest.approx((0.6, 1.5), rel=0.05)
    assert float(theta[:, :, 2].min()) == pytest.approx(-3 / 14, rel=0.05)
    assert float(theta[:, :, 2].max()) == pytest.approx(3 / 14, rel=0.05)


def test_the_white_balance_changes_and_black_has_no_light():
    grey = torch.full((64, 3, 28, 28), 0.5)
    torch.manual_seed(0)
    changed = domain_randomisation.colour(grey)
    ratio = (changed[:, 0] / changed[:, 1]).log()
    assert float(abs(ratio).flatten(1).mean(1).median()) > 0.05
    assert (domain_randomisation.light(torch.zeros(8, 3, 28, 28)) == 0).all()


def test_any_image_may_be_changed():
    torch.manual_seed(0)
    total = torch.zeros(8, 1, 1, 1)
    for _ in range(200):  # in each of which two are changed
        total += domain_randomisation.sometimes(
            lambda part: part + 1, 0.25, torch.zeros_like(total)
        )
    assert total.flatten().tolist() == pytest.approx([50] * 8, abs=20)


def test_a_changed_image_stays_in_its_place():
    """Else it would have another image's label."""
    images = torch.rand(16, 3, 4, 4)
    for _ in range(20):
        assert torch.equal(domain_randomisation.sometimes(torch.clone, 0.5, images), images)


def test_a_corner_of_the_colour_table_moves_its_own_colour(monkeypatch):
    """The first corner of the grid is black's, and the last one white's."""
    moves = torch.zeros(2, 3, 4, 4, 4)
    moves[:, :, 0, 0, 0], moves[:, :, -1, -1, -1] = 0.5, -0.25
    monkeypatch.setattr(torch, "randn", lambda *shape, device: moves)
    monkeypatch.setattr(domain_randomisation, "uniform", lambda *_: torch.ones(2, 1, 1, 1, 1))
    images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 4, 4)
    changed = domain_randomisation.colour_table(images)
    assert (changed[0] == 0.5).all()
    assert (changed[1] == 0.75).all()
