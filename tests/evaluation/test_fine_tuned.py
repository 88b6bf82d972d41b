"""The last layer fitted to a laboratory's images: what is held out, and what is learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import finetune
from bloodcells.evaluation import fine_tuned
from bloodcells.evaluation.fine_tuned import LaboratoryImages
from bloodcells.inference import fine_tuning
from bloodcells.inference.cards import VIEWS
from bloodcells.inference.classifier import load_classifier


def images_of(labels, slides, features):
    return LaboratoryImages(
        [str(n) for n in range(len(labels))],
        np.array(labels),
        np.array(slides),
        np.eye(8)[labels],
        torch.as_tensor(features, dtype=torch.float32).expand(8, -1, -1),
        np.zeros(len(labels)),
    )


@pytest.fixture
def model(weights):
    return load_classifier(weights, 1, torch.device("cpu"))


def test_no_mistake_in_a_few_images_is_no_certainty(model):
    labels = np.repeat([0, 6], 10)
    images = images_of(labels, range(20), np.zeros((20, 16)))
    sure = np.eye(8, dtype=np.float32)[labels] * 0.93 + 0.01
    content = dict.fromkeys(("dataset", "config", "weights_md5", "code"))
    released = {"8": {"temperature": 0.6}}
    part = finetune.entries(model, images, {8: sure}, released, content)["calibration"]["8"]
    assert part["temperature"] == 0.6
    assert all(level < 1 for level in part["sets"].values())


@pytest.mark.parametrize(("released", "bound"), [(0.1, 0.99), (5.0, 5.0)])
def test_images_as_far_as_those_fitted_to_are_not_unlike(model, released, bound):
    images = images_of([0, 1] * 50 + [0], np.arange(101), np.zeros((101, 8)))
    images = replace(images, distances=np.arange(101) / 100)
    held_out = {views: np.full((101, 8), 1 / 8) for views in VIEWS}
    calibrations = {str(views): {"temperature": 1.0} for views in VIEWS}
    content = dict.fromkeys(("dataset", "config", "weights_md5", "code"))
    model = replace(model, farthest=released)
    found = finetune.entries(model, images, held_out, calibrations, content)
    assert found["farthest"] == pytest.approx(bound)


def test_slides_are_held_out_whole(model, monkeypatch):
    """Features that tell the slide alone, each of one class, teach nothing of another slide."""
    slides = np.repeat(np.arange(8), 6)
    images = images_of(slides % 2, slides, np.eye(8)[slides] * 9)
    for fit, score in fine_tuned.folds_of(images, 0):
        assert not set(images.slides[fit]) & set(images.slides[score])
    known = images_of(slides % 2, np.arange(48), np.eye(8)[slides] * 9)
    right = [
        np.mean(
            fine_tuned.held_out(model, one, fine_tuned.folds_of(one, 0), 1).argmax(1) == one.labels
        )
        for one in (images, known)
    ]
    assert right[1] > max(0.85, right[0] + 0.1)
    monkeypatch.setattr(fine_tuned, "SHOTS", ())
    found, _ = fine_tuned.study(model, images, 0)
    assert found["at_random"] > found["fine_tuned"]["mean"] + 0.1


def test_slides_are_resampled_whole(model, monkeypatch):
    """Slides whose images are all read or none: the intervals are far wider than over images."""
    slides = np.repeat(np.arange(12), 20)
    images = images_of(slides % 2, slides, np.zeros((240, 8)))
    images.released = np.eye(8)[np.where(slides % 4 < 2, images.labels, 7)]
    monkeypatch.setattr(fine_tuned, "SHOTS", ())
    found, _ = fine_tuned.study(model, images, 0)
    for key in ("released", "gain"):
        assert found[key]["high"] - found[key]["low"] > 0.3, key


def test_the_curve_is_of_few_images_of_other_slides(model, monkeypatch):
    """Features that tell the slide alone: with images of the same slide, fits seem to be right."""
    slides, fits, fit = np.repeat(np.arange(8), 12), [], fine_tuning.fit_last_layer
    monkeypatch.setattr(fine_tuned, "SHOTS", (20,))
    monkeypatch.setattr(fine_tuned, "DRAWS", 2)

    def noted(model, features, labels):
        fits.append(np.bincount(labels).max())
        return fit(model, features, labels)

    monkeypatch.setattr(fine_tuned, "fit_last_layer", noted)
    features = np.eye(8)[slides] * 9
    by_slide, by_image = (
        fine_tuned.learning_curve(model, images_of(slides % 2, groups, features), 0)[0]["mean"]
        for groups in (slides, np.arange(96))
    )
    assert set(fits) == {20}
    assert by_image > by_slide + 0.1


def test_a_few_images_pull_the_layer_no_farther_than_they_count(model):
    """At the minimum, the distance costs no more than the loss was before the fit."""
    labels = np.repeat([0, 6], 5)
    given = torch.randn(8, 10, 8, generator=torch.manual_seed(0)) + 3 * torch.eye(8)[labels]
    old, new = fine_tuning.released_layer(model), fine_tuning.fit_last_layer(model, given, labels)
    moved = (new.weight - old.weight).square().sum() * given.square().sum(2).mean()
    start = torch.nn.functional.cross_entropy(
        old(given).flatten(0, 1), torch.tensor(labels).repeat(8)
    )
    assert 0.1 * moved < 2 * 10 * start + 20


def test_classes_that_no_other_slide_has_are_not_asked_for(model):
    features = np.random.default_rng(0).normal(size=(24, 8))
    images = images_of([0] * 6 + [1] * 6 + [0] * 12, [0] * 12 + [1] * 12, features)
    folds = fine_tuned.folds_of(images, 0)
    answers = fine_tuned.without_labels(model, images, folds)
    assert set(answers[:6]) == {-1}  # slide 1 has class 0 alone
    assert -1 not in answers[6:]
    rows = fine_tuned.by_class(images, answers, answers, np.full(24, -1), model.classes)
    assert [row["without_its_labels"] for row in rows] == [None, None]


def test_what_is_not_labelled_stays_possible(model):
    """Its mean features at home still get its name, moved as the laboratory moves the others."""
    means, move = model.classifier.means.cpu(), torch.randn(8, generator=torch.manual_seed(0))
    labels = np.repeat(np.arange(6), 10)
    given = (means[labels] + move).expand(8, -1, -1)
    layer = fine_tuning.fit_last_layer(model, given, labels)
    answers = layer((means + move)[6:]).argmax(1)
    assert answers.tolist() == [6, 7]
    assert fine_tuning.probabilities(layer, given).argmax(1).tolist() == labels.tolist()


def test_the_fit_is_the_minimum_that_is_described(weights):
    """Classes count alike, an absent one as much; weights and bias are pulled by their inputs."""
    model = load_classifier(weights, 1, torch.device("cpu"))
    means, labels = model.classifier.means, torch.tensor([0] * 4 + [6] * 10)
    generator, absent = torch.Generator().manual_seed(0), torch.tensor([1, 2, 3, 4, 5, 7])
    given = torch.randn(8, 14, 8, generator=generator) + 3 * torch.eye(8)[labels]
    old = fine_tuning.released_layer(model)
    new = fine_tuning.fit_last_layer(model, given, labels.numpy())
    moved = [given[:, labels == c].mean((0, 1)) - means[c] for c in (0, 6)]
    inputs = torch.cat([given.flatten(0, 1), means[absent] + torch.stack(moved).mean(0)])
    targets = torch.cat([labels.repeat(8), absent])
    counts = torch.cat([torch.where(labels == 0, 7 / 4, 7 / 10).repeat(8) / 8, torch.full((6,), 7)])

    def slope(layer):
        weight, bias = (part.detach().clone().requires_grad_() for part in layer.parameters())
        losses = cross_entropy(inputs @ weight.T + bias, targets, reduction="none")
        pull = inputs.square().sum(1).mean() * (weight - old.weight.detach()).square().sum()
        pull = pull + (bias - old.bias.detach()).square().sum()
        ((counts * losses).sum() + fine_tuning.PULL * pull).backward()
        return float(weight.grad.norm() + bias.grad.norm())

    assert slope(new) < 1e-2 * slope(old)
