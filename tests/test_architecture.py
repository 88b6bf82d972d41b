"""The drawing of a network is that of its code."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from written import complaints, metrics_of

import architecture
import models
from bloodcells.reporting.figures.architecture import number


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("size", [28, 64])
def test_layers_add_up_to_the_network(name, size):
    network = models.build(name, size)
    layers, operations = architecture.trace(network, size)
    assert sum(layer.parameters for layer in layers) == models.count_parameters(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    assert sum(layer.operations for layer in layers) == operations == counter.get_total_flops()
    assert layers[-1].shape == (8,)


class Odd(nn.Module):
    """A module used twice, one that returns a tuple, and a weight outside modules."""

    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 3, 3, padding=1), nn.LSTM(28, 4)
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, images):
        return self.rnn(self.conv(self.conv(images))[:, 0])[0] * self.scale.sum()


def test_modules_used_twice_and_weights_outside_modules():
    layers, operations = architecture.trace(Odd(), 28)
    assert [layer.parameters for layer in layers if "conv 3 x 3" in layer.words] == [84, 0]
    total = 84 + 4 * 4 * (28 + 4 + 2) + 5
    said = architecture.summary(Odd(), layers, operations)
    assert said.startswith(f"{total} parameters (5 outside the modules drawn), ")


class Concat(nn.Module):
    """A module of a list of tensors, and one of none."""

    def forward(self, parts=()):
        return torch.cat(list(parts), 1) if parts else torch.zeros(1, 3, 28, 28)


class Halves(nn.Module):
    def forward(self, images):
        return list(images.chunk(2, 1))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.concat, self.nothing, self.halves = Concat(), Concat(), Halves()

    def forward(self, images):
        images = images + self.nothing()
        return self.concat(self.halves(self.concat([self.first(images), self.second(images)])))


def test_modules_that_take_a_list_or_nothing():
    layers, operations = architecture.trace(Branches(), 28)
    assert [layer.shape[0] for layer in layers if layer.words == ["Concat"]] == [3, 8, 8]
    assert operations == sum(layer.operations for layer in layers) == 2 * 2 * 26 * 26 * 4 * 27


class Transformer(nn.Module):
    """Convolutions by function and of uneven sides, keywords only, and attention."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 3, 3, 3))
        self.conv = nn.Conv2d(8, 8, (1, 5), (1, 2), groups=8)
        self.norm, self.attention = nn.BatchNorm2d(8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images):
        found = self.norm(input=self.conv(nn.functional.conv2d(images, self.weight)))
        tokens = found.flatten(2).mT
        return self.attention(tokens, tokens, tokens)[0]


def test_what_is_outside_modules_and_attention_is_counted():
    layers, operations = architecture.trace(Transformer(), 28)
    words = [layer.words[0] for layer in layers]
    assert words[2:] == ["conv 1 x 5 / 1 x 2", "flatten", "MultiheadAttention"]
    outside = 2 * 26 * 26 * 8 * 27  # of the convolution by function
    count, width = 26 * 11, 8  # tokens
    attention = 2 * count * width * width * 4 + 2 * 2 * count * count * width
    assert layers[-1].operations == attention
    said = architecture.summary(Transformer(), layers, operations)
    assert f"{operations:,} operations an image ({outside:,} outside the modules drawn)" in said


def test_shapes_and_words():
    layers, _ = architecture.trace(models.build("CellNet", 28), 28)
    assert [layer.words[0] for layer in layers] == [
        *("image", "conv 3 x 3", "conv 3 x 3", "max-pool", "residual block"),
        *("conv 3 x 3", "max-pool", "residual block", "one number a channel", "linear"),
    ]
    assert [layer.shape for layer in layers[:5]] == [
        *((3, 28, 28), (16, 28, 28), (64, 28, 28), (64, 14, 14), (64, 14, 14)),
    ]
    assert layers[1].words == ["conv 3 x 3", "batch norm", "ReLU"]
    assert layers[4].inside == ["conv 3 x 3", "batch norm"] * 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (999_400, "999 k"), (999_600, "1 M"), (999_999_999, "1 G"), (18_824, "18.8 k")],
)
def test_numbers_of_three_digits(value, text):
    assert number(value) == text


def test_script_draws_what_is_asked_for(run, fails, tmp_path):
    outcome = run("architecture.py", "--output", tmp_path, "--model", "ConvNet")
    assert outcome.code == 0
    assert "ConvNet: 607,688 parameters" in outcome.out
    assert {path.name for path in tmp_path.iterdir()} == {"ConvNet.png", "metrics.json"}
    assert complaints(tmp_path / "metrics.json") == []
    found = metrics_of(tmp_path)
    assert [row["words"][0] for row in found["networks"]["ConvNet"]][:3] == [
        "image",
        "conv 2 x 2",
        "max-pool",
    ]
    assert "models.py has" in fails("architecture.py", "--output", tmp_path, "--model", "Net")
