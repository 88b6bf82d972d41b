"""Training batches: every image once a pass, turned and shifted as said, labels kept."""

import pytest
import torch
from torch import nn

from bloodcells.cli.recipe import Recipe
from bloodcells.data import synthetic_cells
from bloodcells.data.bloodmnist import normalise
from bloodcells.training import distributed
from bloodcells.training.augmentation import VIEWS, Batches, reflect, view


def random_images(count, side=28):
    torch.manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8), torch.arange(count)


CELLS = torch.from_numpy(synthetic_cells.make()["train"][0][:64])


def batches(images, labels, seed=0, batch_size=16, **augmentation):
    recipe = Recipe(epochs=1, batch_size=batch_size, lr=1.0, **augmentation)
    return Batches(images, labels, recipe, torch.Generator().manual_seed(seed))


def epoch(source):
    """One epoch's images and labels, in the order of the labels."""
    images, labels = (torch.cat(parts) for parts in zip(*source, strict=True))
    order = labels.argsort()
    return images[order], labels[order]


def test_without_augmentation_every_image_comes_once_as_it_is():
    images, labels = random_images(50)
    source = batches(images, labels)
    assert [len(part[1]) for part in source] == [16, 16, 16, 2]
    assert len(source) == 4
    served, order = epoch(source)
    torch.testing.assert_close(served, normalise(images), rtol=0, atol=0)
    assert torch.equal(order, labels)


def test_the_seed_sets_the_order():
    images, labels = random_images(50)
    first, again, other = (
        torch.cat([label for _, label in batches(images, labels, seed)]) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_eight_views_are_the_rotations_and_reflections():
    images, _ = random_images(3)
    views = [view(images, which) for which in range(VIEWS)]
    assert torch.equal(views[0], images)
    assert len({v.contiguous().numpy().tobytes() for v in views}) == 8
    for quarter in range(4):
        for turned in (images, images.flip(2)):
            turned = turned.rot90(quarter, (1, 2))
            assert any(torch.equal(turned, v) for v in views)


def test_dihedral_batches_are_views_and_take_turns():
    images, labels = random_images(40)
    source = batches(images, labels, dihedral=True)
    seen = [set() for _ in labels]
    for _ in range(VIEWS):
        served, _ = epoch(source)
        for index, image in enumerate(served):
            found = [
                which
                for which in range(VIEWS)
                if torch.equal(image, normalise(view(images[index][None], which))[0])
            ]
            assert len(found) == 1
            seen[index].update(found)
    assert all(views == set(range(VIEWS)) for views in seen)


@pytest.mark.parametrize(("side", "most"), [(28, 2), (56, 4)])
def test_shift_moves_whole_pixels_and_scales_with_the_size(side, most):
    images, labels = random_images(64, side)
    served, _ = epoch(batches(images, labels, shift=2))
    padded = torch.nn.functional.pad(normalise(images), [most] * 4, mode="reflect")
    moves = set()
    for index, image in enumerate(served):
        found = [
            (y - most, x - most)
            for y in range(2 * most + 1)
            for x in range(2 * most + 1)
            if torch.equal(image, padded[index, :, y : y + side, x : x + side])
        ]
        assert len(found) == 1
        moves.update(found)
    assert {y for y, _ in moves} == {x for _, x in moves} == set(range(-most, most + 1))


@pytest.mark.parametrize(
    ("cutout", "side", "hides"), [(1, 28, 1), (7, 28, 7), (8, 28, 8), (4, 56, 8)]
)
def test_cutout_hides_a_square_and_scales_with_the_size(cutout, side, hides):
    images, labels = random_images(64, side)
    served, _ = epoch(batches(images, labels, cutout=cutout))
    hidden = (served == 0).all(1)
    assert (hidden.sum((1, 2)) <= hides**2).all()
    assert hidden.sum((1, 2)).max() == hides**2  # where the border cuts none of it off
    rows = hidden.any(2).sum(1)
    assert rows.max() == hides
    kept = ~hidden[:, None].expand_as(served)
    assert torch.equal(served[kept], normalise(images)[kept])


def test_focus_shows_the_hardest_every_pass_and_others_at_random():
    images, labels = random_images(160)
    recipe = Recipe(epochs=10, batch_size=16, lr=1.0, focus=0.4, warmup=0.2)
    source = Batches(images, labels, recipe, torch.Generator().manual_seed(0))
    losses = torch.rand(160)
    hardest = set(losses.topk(32).indices.tolist())
    steps = []
    for _ in range(recipe.epochs):
        for _, shown in source:
            source.record(losses[shown])
            steps.append(set(shown.tolist()))
    assert len(steps) == 100
    assert set.union(*steps[:10]) == set.union(*steps[10:20]) == set(range(160))
    passes = [set.union(*steps[start : start + 4]) for start in range(20, 88, 4)]
    assert all(hardest < shown and len(shown) == 64 for shown in passes)
    assert len(set.union(*passes)) > 150  # 17 draws of a quarter miss hardly any
    assert len(set.union(*steps[-8:])) == 8 * 16  # the end: a pass over all


def test_focus_without_warmup_begins_with_a_pass_over_all():
    images, labels = random_images(160)
    recipe = Recipe(epochs=2, batch_size=16, lr=1.0, focus=0.4, warmup=0.0, schedule="triangle")
    source = Batches(images, labels, recipe, torch.Generator().manual_seed(0))
    epochs = []
    for _ in range(2):
        epochs.append([])
        for _, shown in source:
            source.record(torch.zeros(len(shown)))
            epochs[-1] += shown.tolist()
    assert sorted(epochs[0]) == list(range(160))
    assert len(set(epochs[1])) < 160


def test_focus_refuses_losses_that_tell_nothing_of_each_image():
    images, labels = random_images(160)
    recipe = Recipe(epochs=2, batch_size=16, lr=1.0, focus=0.4, warmup=0.0, schedule="triangle")
    source = Batches(images, labels, recipe, torch.Generator().manual_seed(0))
    batches = iter(source)
    next(batches)
    with pytest.raises(ValueError, match=r"shape \(\): pass one for each image"):
        source.record(torch.tensor(0.5))
    for _ in batches:  # whose losses are not recorded
        pass
    with pytest.raises(ValueError, match="focus needs the losses"):
        next(iter(source))


def test_reflect():
    assert reflect(torch.tensor([-2, -1, 0, 5, 9, 10, 11]), 10).tolist() == [2, 1, 0, 5, 9, 8, 7]


def test_losses_of_randomised_images_do_not_count():
    images, labels = random_images(64)
    recipe = Recipe(epochs=4, batch_size=16, lr=1.0, domain_randomisation=0.5)
    source = Batches(images, labels, recipe, torch.Generator().manual_seed(0))
    for served, rows in source:
        changed = (served != normalise(images[rows])).flatten(1).any(1)
        source.record(torch.full((len(rows),), 3.0))
        assert torch.equal(source.losses[rows] == 3, ~changed)
    assert (source.losses == 3).sum() == 32


def test_images_are_shifted_along_both_axes_apart():
    ramp = torch.arange(28, dtype=torch.uint8)
    images = torch.stack([ramp[:, None].expand(28, 28), ramp.expand(28, 28)], -1)
    images = nn.functional.pad(images, (0, 1)).expand(64, -1, -1, -1).contiguous()
    ((served, _),) = batches(images, torch.arange(64), batch_size=64, shift=2)
    middle = (served[:, :2, 14, 14] * 127.5 + 127.5).round().long() - 14
    assert len({tuple(move) for move in middle.tolist()}) > 10


def test_the_square_of_cutout_lies_anywhere():
    """Also off the diagonal, for each image elsewhere, and over each border as often."""
    images = torch.full((640, 28, 28, 3), 255, dtype=torch.uint8)
    recipe = Recipe(epochs=1, batch_size=640, lr=1.0, cutout=7)
    source = Batches(images, torch.arange(640), recipe, torch.manual_seed(0))
    ((served, _),) = source
    hidden = (served == 0).all(1)
    share = hidden.float().mean(0)
    assert share[3:-3, 3:-3].min() > 0.02  # of 49 / 784
    edges = [share[0].mean(), share[-1].mean(), share[:, 0].mean(), share[:, -1].mean()]
    assert min(edges) > 0.6 * max(edges)


def test_images_begin_with_different_views():
    images = CELLS[:1].expand(64, -1, -1, -1).contiguous()
    ((served, _),) = batches(images, torch.arange(64), batch_size=64, dihedral=True)
    assert len({image.numpy().tobytes() for image in served}) == 8


def test_epochs_are_counted_for_each_process_s_numbers(monkeypatch):
    seen, images = [], CELLS[:40]
    monkeypatch.setattr(distributed, "own_random_numbers", lambda seed, epoch: seen.append(epoch))
    recipe = Recipe(epochs=3, batch_size=16, lr=1.0)
    source = Batches(images, torch.arange(40), recipe, torch.manual_seed(0))
    for _ in range(3):
        list(source)
    assert seen == [1, 2, 3]
