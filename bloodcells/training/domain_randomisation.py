"""Random changes that make training images look as if other laboratories had made them.

Domain randomisation (Tobin et al., 2017): a network that has seen cells in many colours, sizes,
lights and surroundings relies on what they share. Each change works on a batch, float (N, 3, H, W)
in 0..1, and draws its strength for each image (resolutions: for the batch). kornia has most of
these; it is ten times as slow on a CPU, and a training step is short.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

from bloodcells.data.bloodmnist import normalise

LEVELS = 255  # of a stored image
NUCLEUS = 0.28  # of the square that frames a cell; in data/framing.py, 0.26 of the convex hull


def randomise(images: Tensor, share: float, unchanged: str = "none") -> Tensor:
    """Change a share of the images, float (N, 3, H, W) in -1..1, the first; the rest stay.

    The changes of the group `unchanged` are left out.
    """
    count = changed_count(share, len(images))
    changed = (images[:count] + 1) / 2
    for change, chance, group in CHANGES:
        if group != unchanged:
            changed = sometimes(change, chance, changed)
    changed = (changed.clamp(0, 1) * LEVELS).round() * (2 / LEVELS) - 1
    together = torch.cat([changed, images[count:]])
    return together.contiguous(memory_format=torch.channels_last)


def changed_count(share: float, images: int) -> int:
    """How many of so many images `randomise` changes: the first ones."""
    return round(share * images)


def randomise_stored(
    images: Tensor, seed: int, unchanged: str = "none", batch_size: int = 128
) -> Tensor:
    """All of some stored images, uint8 (N, H, H, 3), changed; the same for the same seed."""
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(seed)
        changed = [randomise(normalise(part), 1.0, unchanged) for part in images.split(batch_size)]
    stored = (torch.cat(changed) + 1) * (LEVELS / 2)
    return stored.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def sometimes(change: Callable[[Tensor], Tensor], chance: float, images: Tensor) -> Tensor:
    """The images with a random share of them changed, on average over batches of any size."""
    count = int(chance * len(images) + draw())
    if not count:
        return images
    rows = torch.randperm(len(images), device=images.device)[:count]
    return images.index_copy(0, rows, change(images[rows]))


def draw() -> float:
    """A random number in 0..1 for the whole batch, on the CPU: a GPU's would be waited for."""
    return float(torch.rand(()))


def uniform(images: Tensor, low: float, high: float, *shape: int) -> Tensor:
    """Random numbers, one set of `shape` per image."""
    return torch.empty(len(images), *shape, device=images.device).uniform_(low, high)


def framed(images: Tensor) -> Tensor:
    """Cut a square around the nucleus, so that the cell loses its size, as in predict.py.

    More simply found than there: the nucleus is where blue exceeds green by more than halfway from
    the image's median to its most stained part. A random resolution hides how far a cell was
    enlarged, as its size would show in the blur.
    """
    side = images.shape[-1]
    stain = images[:, 2] - images[:, 1]
    flat = stain.flatten(1)
    halfway = (flat.quantile(0.5, 1) + flat.quantile(0.995, 1)) / 2
    nucleus = (stain >= halfway[:, None, None]).float()
    axis = (2 * torch.arange(side, device=images.device) + 1) / side - 1
    share = nucleus.mean((1, 2))
    size = (share / NUCLEUS).sqrt() * uniform(images, -0.2, 0.2).exp()
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = size.clamp(0.3, 1)
    theta[:, 0, 2] = (nucleus.mean(1) * axis).mean(1) / share
    theta[:, 1, 2] = (nucleus.mean(2) * axis).mean(1) / share
    fine = interpolate(images, 2 * side, mode="bicubic")
    return coarser(sampled(fine, theta), side, 8, 28, "bicubic").clamp(0, 1)


def surroundings(images: Tensor) -> Tensor:
    """Another image of the batch outside a disk in the middle: other neighbours."""
    axis = torch.linspace(-14, 14, images.shape[-1], device=images.device)
    outside = torch.hypot(axis[:, None], axis) - uniform(images, 9, 15, 1, 1, 1)
    others = images[torch.randperm(len(images), device=images.device)]
    return images.lerp(others, (1.5 * outside).sigmoid())


def geometry(images: Tensor) -> Tensor:
    """Any rotation, 0.6 to 1.5 times the size, stretched or sheared, shifted, or mirrored."""
    angle = uniform(images, -math.pi, math.pi)
    size = uniform(images, math.log(0.6), math.log(1.5)).exp()
    aspect = uniform(images, -0.15, 0.15).exp()
    mirror = uniform(images, -1, 1).sign()
    theta = torch.empty(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * angle.cos() / (size * aspect), -angle.sin() / size
    theta[:, 1, 0], theta[:, 1, 1] = mirror * angle.sin() / size, angle.cos() * aspect / size
    theta[:, :, 2] = uniform(images, -3 / 14, 3 / 14, 2)  # three pixels of 28
    return sampled(images, theta)


def sampled(images: Tensor, theta: Tensor) -> Tensor:
    """The images under affine maps (N, 2, 3), mirrored beyond the border."""
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def fewer_pixels(images: Tensor) -> Tensor:
    """A lower resolution, enlarged again."""
    return coarser(images, images.shape[-1], 10, 23, "bilinear" if draw() < 0.5 else "nearest")


def coarser(images: Tensor, side: int, least: int, most: int, mode: str) -> Tensor:
    """The images with `least` to `most` pixels of 28, drawn for all, enlarged to `side`."""
    low = max(1, int((least + draw() * (most + 1 - least)) * side / 28))
    mean = areas(low, images.shape[-1], images.device)
    return interpolate(mean @ images @ mean.T, side, mode=mode)


def areas(few: int, many: int, device: torch.device) -> Tensor:
    """The matrix (few, many) that takes the means of `many` pixels over `few` equal parts.

    `interpolate` does nearly that with `mode="area"`, but on Apple's GPUs for few sizes only.
    """
    fine = torch.eye(many, device=device).repeat_interleave(few, 1)  # few * many parts of a line
    return fine.view(many, few, many).mean(2).T


def colour_table(images: Tensor) -> Tensor:
    """A random smooth table of colours: each corner of a grid in the colour cube is moved.

    Unlike one mix of the channels, it changes the colours of nucleus, cytoplasm and background
    independently, as stains do.
    """
    moves = torch.randn(len(images), 3, 4, 4, 4, device=images.device)
    moves = moves * uniform(images, 0, 0.25, 1, 1, 1, 1)
    places = 2 * images.permute(0, 2, 3, 1)[:, None] - 1  # (N, 1, H, W, 3)
    shift = grid_sample(moves, places, padding_mode="border", align_corners=True)[:, :, 0]
    return images + shift


def colour(images: Tensor) -> Tensor:
    """Another camera: channels mixed, saturation, contrast, brightness, white balance, gamma."""
    mix = torch.randn(len(images), 3, 3, device=images.device) * uniform(images, 0, 0.25, 1, 1)
    mix = mix + torch.eye(3, device=images.device)
    mix = mix / mix.sum(2, keepdim=True).clamp_min(0.3)  # grey stays grey
    images = torch.einsum("nij,njhw->nihw", mix, images)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(images, -1.2, 0.7, 1, 1, 1).exp()
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast = uniform(images, -0.9, 0.3, 1, 1, 1).exp()
    images = mean + (images - mean) * contrast + uniform(images, -0.15, 0.15, 1, 1, 1)
    images = images * uniform(images, -0.3, 0.3, 3, 1, 1).exp()
    return images.clamp(1e-3, 1) ** uniform(images, -0.5, 0.5, 1, 1, 1).exp()


def light(images: Tensor) -> Tensor:
    """Uneven illumination, slightly coloured."""
    field = torch.randn(len(images), 1, 3, 3, device=images.device)
    field = field + 0.3 * torch.randn(len(images), 3, 3, 3, device=images.device)
    smooth = interpolate(field, images.shape[-2:], mode="bicubic", align_corners=True)
    return images * (smooth * uniform(images, 0, 0.3, 1, 1, 1)).exp()


def spots(images: Tensor) -> Tensor:
    """Up to six disks with rims, of any colours: dirt, stain deposits, bubbles."""
    axis = torch.linspace(0, 28, images.shape[-1], device=images.device)
    for number in range(6):
        x, y = uniform(images, 0, 28, 1, 1), uniform(images, 0, 28, 1, 1)
        there = uniform(images, 0, 1, 1, 1) > number / 6  # one always, six seldom
        radius, opacity = uniform(images, 0.5, 4, 1, 1), uniform(images, 0.3, 1, 1, 1)
        depth = radius - torch.hypot(axis[:, None] - y, axis - x)
        for inset in (0, 0.5):  # the rim, and what is inside
            cover = there * opacity * (3 * (depth - inset)).sigmoid()
            colour = uniform(images, 0, 1, 3, 1, 1).expand_as(images)
            images = images.lerp(colour, cover[:, None])
    return images


def blur(images: Tensor) -> Tensor:
    """Out of focus: a Gaussian of 0.15 to 1.4 pixels of 28."""
    count, channels, height, width = images.shape
    reach = four_pixels(width)
    offsets = torch.arange(-reach, reach + 1.0, device=images.device) * 28 / width
    kernel = (-0.5 * (offsets / uniform(images, 0.15, 1.4, 1)) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = pad(images.reshape(1, -1, height, width), [reach] * 4, mode="reflect")
    flat = conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.view(images.shape)


def motion(images: Tensor) -> Tensor:
    """Moved during the exposure, by up to ten pixels of 28."""
    angle, reach = uniform(images, 0, math.pi), uniform(images, 0.5, 5) / 14
    theta = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    total = torch.zeros_like(images)
    steps = four_pixels(images.shape[-1])
    places = [number / steps for number in range(-steps, steps + 1)]
    for place in places:
        theta[:, 0, 2], theta[:, 1, 2] = place * reach * angle.cos(), place * reach * angle.sin()
        total += sampled(images, theta)
    return total / len(places)


def four_pixels(side: int) -> int:
    """Four pixels of 28, in pixels of images of that side."""
    return math.ceil(4 * side / 28)


def noise(images: Tensor) -> Tensor:
    """Noise of the camera, coloured or grey."""
    coloured = torch.randn_like(images)
    grey = coloured.mean(1, keepdim=True) * math.sqrt(3)
    chosen = torch.where(uniform(images, 0, 1, 1, 1, 1) < 0.5, coloured, grey)
    return images + 0.1 * uniform(images, 0, 1, 1, 1, 1) ** 1.5 * chosen


# each with the share of images that it changes, and its group
CHANGES: tuple[tuple[Callable[[Tensor], Tensor], float, str], ...] = (
    (framed, 0.25, "geometry"),
    (surroundings, 0.3, "geometry"),
    (geometry, 0.7, "geometry"),
    (fewer_pixels, 0.15, "sharpness"),
    (colour_table, 0.4, "colour"),
    (colour, 0.5, "colour"),
    (light, 0.3, "colour"),
    (spots, 0.3, "dirt"),
    (blur, 0.3, "sharpness"),
    (motion, 0.25, "sharpness"),
    (noise, 0.3, "dirt"),
)
