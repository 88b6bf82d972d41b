"""Maps of where a class is found, and their check with shuffled weights."""

import numpy as np
import pytest
import torch

import models
from bloodcells.data import bloodmnist, synthetic_cells
from bloodcells.evaluation import class_activation


@pytest.fixture
def network():
    torch.manual_seed(0)
    return models.build("CellNet", 28, (4, 8, 8)).eval()


def test_a_map_says_where_each_channel_is_strongest(network):
    images, labels = (torch.from_numpy(part[:4]) for part in synthetic_cells.make()["test"])
    with torch.inference_mode():
        last = network.body(network.relu(network.stem(bloodmnist.normalise(images)))).numpy()
    weight = network.classifier.weight.detach().numpy()
    expected = np.zeros((4, 7, 7))
    for image, channels in enumerate(last):
        for channel, values in enumerate(channels):
            place = np.unravel_index(values.argmax(), values.shape)
            expected[image][place] += values.max() * weight[labels[image], channel]
    found = class_activation.class_maps(network, images, labels).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_places_that_are_equally_strong_share(network):
    """In a network that says the same of every place, the map still sums to the logit."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.bias)
    image, label = torch.zeros(1, 28, 28, 3, dtype=torch.uint8), torch.tensor([2])
    with torch.inference_mode():
        logit = network(bloodmnist.normalise(image))[0, 2] - network.classifier.bias[2]
    found = class_activation.class_maps(network, image, label)
    torch.testing.assert_close(found, (logit / 49).expand(1, 7, 7))


def test_every_weight_is_shuffled_by_the_seed(network):
    first, again, other = (class_activation.shuffled(network, seed) for seed in (0, 0, 1))
    for name, weight in network.named_parameters():
        values, order = first.get_parameter(name), other.get_parameter(name)
        assert torch.equal(values, again.get_parameter(name))
        assert torch.equal(values.flatten().sort().values, weight.flatten().sort().values)
        if weight.unique().numel() > 1:
            assert not torch.equal(values, weight), name
            assert not torch.equal(values, order), name
