"""The networks that all scripts share, and the registry of their names.

Every network takes `in_channels`, `num_classes` and `image_size`, and maps a float tensor of shape
(N, in_channels, image_size, image_size) to logits of shape (N, num_classes).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout`, faster on the CPU: one random byte per value, so `p` is in steps of 1/256.

    The CPU draws random numbers one after another, which with `nn.Dropout` took a third of
    `ConvNet`'s training time. Here each 64-bit number serves eight values. Raises `OptionError` for
    a `p` that rounds to 1, and for one above 0 that rounds to 0.
    """

    def __init__(self, p: float):
        super().__init__(p)
        self.dropped = round(p * 256)  # how many of a byte's 256 values drop
        if self.dropped == 256 or (p and not self.dropped):
            raise OptionError(f"dropout {p:g}: pass 0, or 0.002 to 0.998: it is in steps of 1/256")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if x.device.type != "cpu":  # GPUs draw in parallel
            return nn.functional.dropout(x, self.dropped / 256)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        words.random_(torch.iinfo(torch.int64).min, None)  # the full range: all 64 bits are random
        kept = words.view(torch.uint8)[: x.numel()] >= self.dropped
        scaled = kept.to(x.dtype).mul_(256 / (256 - self.dropped))
        return x * scaled.as_strided(x.size(), torch.empty_like(x).stride())  # x's memory format

    def extra_repr(self) -> str:
        return f"p={self.dropped / 256:g}"


class Baseline(nn.Module):
    """The paper's baseline, one linear layer on the pixels: 18,824 parameters at 28 px RGB."""

    def __init__(self, in_channels: int = 3, num_classes: int = 8, image_size: int = 28):
        super().__init__()
        self.linear = nn.Linear(in_channels * image_size**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class ConvNet(nn.Module):
    """The CNN of "Optimizing Blood Cell Classification with Convolutional Neural Networks".

    607,688 parameters at 28 px RGB. Raises `ValueError` for images under 5 px, of which nothing
    is left after the second convolution.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 8,
        image_size: int = 28,
        dropout: float = 0.25,
    ):
        super().__init__()
        side = (image_size - 1) // 2 - 1
        if side < 1:
            raise ValueError(f"ConvNet needs images of at least 5 px, not {image_size}")
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=2),  # (N, 64, 27, 27) at 28 px
            nn.MaxPool2d(2),  # (N, 64, 13, 13); before the ReLU: same values, less work
            nn.ReLU(),
            Dropout(dropout),
            nn.Conv2d(64, 64, kernel_size=2),  # (N, 64, 12, 12)
            nn.ReLU(),
            Dropout(dropout),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 9216)
            nn.Linear(64 * side**2, 64),
            Dropout(dropout),  # and no activation, as in the published code
            nn.Linear(64, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


Norm = Callable[[int], nn.Module]  # makes a normalisation layer, given the number of channels


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He, 2018), of at least eight channels per group.

    In float32 even under autocast: torch's kernel is several times slower in bfloat16.
    """

    def __init__(self, channels: int):
        groups = range(1, max(1, channels // 8) + 1)
        super().__init__(max(n for n in groups if channels % n == 0), channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def conv(
    in_channels: int, out_channels: int, stride: int = 1, norm: Norm = nn.BatchNorm2d
) -> nn.Sequential:
    """A 3 x 3 convolution and its normalisation; a stride of 2 halves height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
        norm(out_channels),
    )


class Residual(nn.Module):
    """A residual block: two convolutions and an identity shortcut (He et al., 2016)."""

    def __init__(self, channels: int, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.first, self.second = (conv(channels, channels, norm=norm) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x).relu_())).relu_()


class CellNet(nn.Module):
    """A small residual network that widens before it pools, so that little detail is lost.

    `widths` are the channels of the stem, of the first stage (feature maps of 28, then 14 pixels)
    and of the second stage (14, then 7 pixels). For images of 64 pixels and more, strided
    convolutions, beginning with the stem, first halve the size until it is about 28 pixels.
    Widths that are multiples of 16 train fastest on a CPU (docs/speed.md).
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 8,
        image_size: int = 28,
        widths: Sequence[int] = (16, 64, 128),
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        first, middle, last = widths
        halvings = max(0, round(math.log2(image_size / 28)))
        self.stem = conv(in_channels, first, 2 if halvings else 1, norm)  # (N, 16, 28, 28) at 28 px
        self.relu = nn.ReLU(inplace=True)
        self.body = nn.Sequential()
        for _ in range(halvings - 1):
            self.body.extend([conv(first, first, 2, norm), nn.ReLU()])
        self.body.extend(
            [
                conv(first, middle, norm=norm),
                nn.MaxPool2d(2),  # (N, 64, 14, 14); before the ReLU: same values, less work
                nn.ReLU(),
                Residual(middle, norm),
                conv(middle, last, norm=norm),
                nn.MaxPool2d(2),  # (N, 128, 7, 7)
                nn.ReLU(),
                Residual(last, norm),
            ]
        )
        self.classifier = nn.Linear(last, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """The last layer's input, (N, channels): each channel's maximum over the feature map."""
        with torch.autocast(x.device.type, enabled=False):  # 3 channels are slow in bfloat16
            x = self.relu(self.stem(x.float()))
        return self.body(x).amax((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class RobustNet(CellNet):
    """A `CellNet` for images of other laboratories: no statistics of the training images.

    Each channel of an image is shifted to mean 0, and the image scaled to a standard deviation of
    about 1/2 (less for a faint one), which removes much of the effect of light and stain. Group
    normalisation replaces batch normalisation, whose statistics are those of the training images.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 8,
        image_size: int = 28,
        widths: Sequence[int] = (24, 96, 192),
    ):
        super().__init__(in_channels, num_classes, image_size, widths, GroupNorm)

    def features(self, x: Tensor) -> Tensor:
        """The last layer's input, (N, channels), of standardised images."""
        x = x - x.mean((2, 3), keepdim=True)
        deviation = x.square().mean((1, 2, 3), keepdim=True).sqrt()
        return super().features(0.5 * x / (deviation + 0.02))  # a blank image stays blank


class ResNet18(nn.Module):
    """MedMNIST v2's reference network: ResNet-18 (He et al., 2016) with a stem for small images.

    11,172,936 parameters for RGB. Its first convolution keeps the size, and no pooling follows it.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 8, image_size: int = 28):
        super().__init__()
        # imported here because it takes a second to load, and only this network needs it
        from torchvision.models.resnet import BasicBlock, ResNet

        self.network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes)
        self.network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.network.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.network.maxpool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class OptionError(ValueError):
    """An unknown network or option, or an unfit value; the message begins with the option's name.

    Other errors of a network are mistakes in its code, and keep their traceback.
    """


# The choices of `--model`: add yours. Each takes in_channels, num_classes and image_size; the tests
# pass other values than the defaults.
NETWORKS = (Baseline, ConvNet, CellNet, RobustNet, ResNet18)
MODELS: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in NETWORKS}


def build(
    name: str,
    image_size: int,
    widths: Sequence[int] | None = None,
    dropout: float | None = None,
    num_classes: int = 8,
) -> nn.Module:
    """A new network from `MODELS`; None for `widths` or `dropout` means the network's default.

    Raises `OptionError` for an unknown network and for an option that the network does not have.
    """
    if name not in MODELS:
        raise OptionError(f"model {name}: models.py has {', '.join(MODELS)}")
    options = {}
    for option, value, owner in (("widths", widths, CellNet), ("dropout", dropout, ConvNet)):
        if value is not None:
            if not issubclass(MODELS[name], owner):
                raise OptionError(
                    f"{option}: {name} has none to choose; leave it out, or use a preset without it"
                )
            options[option] = value
    return MODELS[name](image_size=image_size, num_classes=num_classes, **options)


def count_parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
