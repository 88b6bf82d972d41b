"""The network classes that all scripts share, and one name-to-class registry.

Every class takes `in_channels`, `num_classes` and `image_size`, and maps a float tensor of shape
(N, in_channels, image_size, image_size) to logits of shape (N, num_classes).
"""

from torch import Tensor, nn


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
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 64, 13, 13)
            nn.Dropout(0.25),
            nn.Conv2d(64, 64, kernel_size=2),  # (N, 64, 12, 12)
            nn.ReLU(),
            nn.Dropout(0.25),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 9216)
            nn.Linear(64 * side**2, 64),
            nn.Dropout(0.25),
            nn.Linear(64, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


MODELS: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in (Baseline, ConvNet)}


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
