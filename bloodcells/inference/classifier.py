"""A trained network ready for use: raw images in, calibrated probabilities out.

It is stored in two files of `weights/`: the tensors (safetensors, float16) and, under the same
name, a JSON card with the classes, the calibration and the origin of the weights.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.fusion import fuse_conv_bn_eval

import models
from bloodcells.data.bloodmnist import normalise
from bloodcells.errors import UserError
from bloodcells.inference.cards import LEVELS, read_card
from bloodcells.tracking import run_folder
from bloodcells.training.augmentation import view


class Classifier(nn.Module):
    """Calibrated class probabilities of raw images, and each one's distance to the training images.

    The distance is 1 minus the cosine of the angle between the image's features and the nearest
    class mean, which does not depend on how strong the features are (after Techapanurak et al.,
    "Hyperparameter-Free Out-of-Distribution Detection Using Cosine Similarity", 2020). It is taken
    from the unchanged image, whatever `views` is.
    """

    def __init__(self, network: models.CellNet, means: Tensor):
        """`means` (classes, d) are those of the training images' features, by class."""
        super().__init__()
        self.network = network
        self.means: Tensor
        self.register_buffer("means", means)
        self.views, self.temperature = 1, 1.0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, H, H, 3) to probabilities (N, classes) and distances (N,)."""
        features = self.network.features(normalise(images))
        cosines = normalize(features, dim=1) @ normalize(self.means, dim=1).T
        total = self.network.classifier(features).softmax(1)
        for which in range(1, self.views):
            total = total + self.network(normalise(view(images, which))).softmax(1)
        logits = (total / self.views).clamp_min(torch.finfo(torch.float32).tiny).log()
        return (logits / self.temperature).softmax(1), 1 - cosines.amax(1)

    @torch.inference_mode()
    def predict(self, images: Tensor, batch_size: int = 128) -> tuple[Tensor, Tensor]:
        """`forward` for any number of images, in batches; results on the CPU."""
        parts = [self(part) for part in images.split(batch_size)]
        return cast(
            tuple[Tensor, Tensor],
            tuple(torch.cat(values).cpu() for values in zip(*parts, strict=True)),
        )


@dataclass(frozen=True)
class Released:
    """A classifier and what its card says of it, for one number of views."""

    classifier: Classifier
    classes: list[str]  # those that can occur
    columns: list[int]  # of the classifier's probabilities, that of each of `classes`
    size: int  # side of the images that it takes, in pixels
    sets: dict[str, float]  # by level, "0.95": least probability of a class in the prediction set
    farthest: float  # distance above which an image is out-of-distribution
    frequencies: np.ndarray  # of all of the classifier's classes among the training images

    def among(self, classes: Sequence[str]) -> Released:
        """The same where only some of the classes can occur."""
        columns = [self.columns[self.classes.index(name)] for name in classes]
        return replace(self, classes=list(classes), columns=columns)

    def predict(
        self, images: np.ndarray, foreign: np.ndarray, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, classes) and distances (N,) of uint8 images (N, H, H, 3).

        Where `foreign`, bool (N,), is set, all classes are taken as equally frequent: the training
        images' frequencies are those of one analyser's collection. The probabilities are
        renormalised over the classes that can occur, so a prediction set holds the truth at least
        as often as without that restriction.
        """
        on_device = torch.from_numpy(images).to(self.classifier.means.device)
        every, distances = (part.numpy() for part in self.classifier.predict(on_device, batch_size))
        weight = np.where(foreign[:, None], 1 / self.frequencies, 1.0)
        probabilities = np.maximum(every * weight, np.finfo(np.float32).tiny)[:, self.columns]
        return probabilities / probabilities.sum(1, keepdims=True), distances


@torch.inference_mode()
def features(network: models.CellNet, images: Tensor, batch_size: int = 128) -> Tensor:
    """The last layer's input for uint8 images (N, H, H, 3): float32 (N, d) on the CPU."""
    parts = [network.features(normalise(part)) for part in images.split(batch_size)]
    return torch.cat(parts).cpu()


@torch.inference_mode()
def mean_features(classifier: Classifier, images: Tensor, batch_size: int = 128) -> Tensor:
    """The mean of `features` over the classifier's views: float32 (N, d) on the CPU."""
    total: Tensor | int = 0
    for which in range(classifier.views):
        total = total + features(classifier.network, view(images, which), batch_size)
    return cast(Tensor, total / classifier.views)


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """The mean of the features (N, d) of each class in `labels` (N,): (classes, d)."""
    return torch.stack([features[labels == c].mean(0) for c in labels.unique()])


def save_classifier(path: Path, classifier: Classifier, card: dict) -> None:
    """Write the tensors to `path`, and the card, with their MD5 added, beside it.

    Both are on disk before either replaces an earlier one. Raises `UserError` if they cannot be
    written.
    """
    state = {
        name: value.half() if name.startswith("network.") and value.is_floating_point() else value
        for name, value in classifier.state_dict().items()
    }
    tensors = safetensors.torch.save({name: value.contiguous() for name, value in state.items()})
    card = {**card, "md5": md5_of(tensors)}  # `load_classifier` refuses a mismatched pair
    name = path.with_suffix(".json").name

    def fill(folder: Path) -> None:
        (folder / path.name).write_bytes(tensors)
        run_folder.write_json(folder / name, card)

    run_folder.write(path.parent, fill, last=name)


def load_classifier(
    path: Path, views: int, device: torch.device, flag: str = "--weights"
) -> Released:
    """Read weights and card. Raises `UserError` if they are missing, damaged or do not match."""
    if path.suffix != ".safetensors":
        raise UserError(f"{flag} {path}: weights have names ending in .safetensors")
    try:
        card = read_card(path.with_suffix(".json").read_text(encoding="utf-8"))
        tensors = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            f"{flag} {path}: {error.filename} is missing; of a training's weights, "
            "model_release.py --run makes such a pair"
        ) from error
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read: {error}") from error
    except ValueError as error:
        raise UserError(f"{flag} {path}: its card describes no model: {error}") from error
    try:
        if md5_of(tensors) != card["md5"]:
            raise UserError(f"{flag} {path}: damaged: its MD5 is not {card['md5']}; fetch it again")
        state = safetensors.torch.load(tensors)
        if not all(torch.isfinite(value).all() for value in state.values()):
            raise ValueError("some weights are NaN or infinite")
        if len(state["means"]) != len(card["classes"]):
            raise ValueError("not one mean of the features for each class")
        model = released(classifier_of(card, state), card, views)
        blank = np.zeros((2, model.size, model.size, 3), np.uint8)
        model.predict(blank, np.array([False, True]), len(blank))  # fails unless they match
    except (LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{flag} {path}: the weights do not match the card: {reason}") from error
    try:
        model.classifier.to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
    except torch.OutOfMemoryError as error:
        raise UserError(f"{device} is out of memory; pass --device cpu") from error
    return model


def classifier_of(card: dict, state: dict[str, Tensor]) -> Classifier:
    """The classifier that the card describes, with these weights.

    Raises `LookupError`, `ValueError` or `RuntimeError` if they are another network's. The network
    takes no more memory than the weights, whatever the card says.
    """
    with torch.device("meta"):
        network = models.build(
            card["model"], card["size"], card["widths"], num_classes=len(card["classes"])
        )
    if models.count_parameters(network) != card["parameters"]:
        raise ValueError(f"a network of {models.count_parameters(network)} parameters")
    classifier = Classifier(cast(models.CellNet, network), state["means"])
    whole = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    classifier.load_state_dict(whole, assign=True)
    fuse(classifier.eval())
    return classifier


def released(classifier: Classifier, card: dict, views: int) -> Released:
    """A copy of the classifier for this number of views, with what its card says."""
    calibration = card["calibration"][str(views)]
    classifier = copy.copy(classifier)  # shares the weights
    classifier.views, classifier.temperature = views, float(calibration["temperature"])
    return Released(
        classifier,
        classes=card["classes"],
        columns=list(range(len(card["classes"]))),
        size=card["size"],
        sets={level: float(calibration["sets"][level]) for level in LEVELS},
        farthest=float(card["farthest"]),
        frequencies=np.array(card["frequencies"], float),
    )


def md5_of(content: bytes) -> str:
    """The MD5 of a file's content, a checksum only."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def fuse(module: nn.Module) -> None:
    """Fold each batch normalisation into the weights of the convolution before it."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and [type(part) for part in child] == [
            nn.Conv2d,
            nn.BatchNorm2d,
        ]:
            setattr(module, name, fuse_conv_bn_eval(*child))
        else:
            fuse(child)
