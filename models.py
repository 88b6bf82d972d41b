"""The network classes that all scripts share, and one name-to-class registry.

Every class takes `in_channels`, `num_classes` and `image_size`, and maps a float tensor of shape
(N, in_channels, image_size, image_size) to logits of shape (N, num_classes).
"""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """`nn.Dropout` that draws one random byte a value on the CPU; `p` is a multiple of 1/256.

    The CPU draws random numbers one after the other, which took a third of `ConvNet`'s training
    time with `nn.Dropout`. Each 64-bit number drawn here serves eight values.
    """

    def __init__(self, p: float):
        super().__init__()
        self.dropped = round(p * 256)  # of the 256 values of a byte

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if x.device.type != "cpu":  # GPUs draw in parallel
            return nn.functional.dropout(x, self.dropped / 256)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        words.random_(torch.iinfo(torch.int64).min, None)  # the whole range: all 64 bits vary
        kept = words.view(torch.uint8)[: x.numel()] >= self.dropped
        scaled = kept.to(x.dtype).mul_(256 / (256 - self.dropped))
        return x * scaled.as_strided(x.size(), torch.empty_like(x).stride())  # x's memory order

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

    607,688 parameters at 28 px RGB. Raises `ValueError` for images under 5 px, which leave
    nothing after the pooling.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 8, image_size: int = 28):
        super().__init__()
        side = (image_size - 1) // 2 - 1
        if side < 1:
            raise ValueError(f"ConvNet needs images of at least 5 px, not {image_size}")
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=2),  # (N, 64, 27, 27) at 28 px
            nn.MaxPool2d(2),  # (N, 64, 13, 13); before the ReLU: equal values, a quarter the work
            nn.ReLU(),
            Dropout(0.25),
            nn.Conv2d(64, 64, kernel_size=2),  # (N, 64, 12, 12)
            nn.ReLU(),
            Dropout(0.25),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 9216)
            nn.Linear(64 * side**2, 64),
            Dropout(0.25),
            nn.Linear(64, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


MODELS: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in (Baseline, ConvNet)}


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
