"""Image corruptions by microscopes, stains and file formats, at five severities.

Lengths are in pixels of a 28-pixel image and scale with its side. After Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions" (2019), and Di Salvo et al.,
"MedMNIST-C" (2024), with strengths chosen anew for images of one stained cell.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image
from scipy.ndimage import convolve
from skimage.color import bex_from_rgb, rgb_from_bex

from bloodcells.data.official_chain import to_bytes

SEVERITIES = (1, 2, 3, 4, 5)
Generator = np.random.Generator
# takes float images (N, H, W, 3) in 0..255, the strength at a severity, a random generator
Corruption = Callable[[np.ndarray, float, Generator], np.ndarray]


def defocus(images: np.ndarray, radius: float, rng: Generator) -> np.ndarray:
    """Defocus blur: each point spread over a disk."""
    return blurred(images, disk(radius * images.shape[1] / 28))


def disk(radius: float) -> np.ndarray:
    """A disk of `radius` pixels as a convolution kernel, its rim antialiased."""
    reach = int(np.ceil(radius))
    axis = np.arange(-reach, reach + 1)
    return np.clip(radius + 0.5 - np.hypot(axis[:, None], axis), 0, 1)


def motion(images: np.ndarray, length: float, rng: Generator) -> np.ndarray:
    """Motion blur along one of four directions, drawn for each image; diagonals are 1.4 as long."""
    size = 2 * round(length * images.shape[1] / 28 / 2) + 1
    line = np.zeros((size, size))
    line[size // 2] = 1
    kernels = (line, line.T, np.eye(size), np.eye(size)[::-1])
    direction = rng.integers(len(kernels), size=len(images))
    result = np.empty_like(images)
    for number, kernel in enumerate(kernels):
        result[direction == number] = blurred(images[direction == number], kernel)
    return result


def blurred(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Images convolved with `kernel`, scaled to a sum of one."""
    return convolve(images, (kernel / kernel.sum())[None, :, :, None], mode="nearest")


def stain(images: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Giemsa's two dyes, each stronger or weaker (deconvolution of Ruifrok and Johnston, 2001)."""
    dyes = -np.log(np.maximum(images, 1) / 255) @ bex_from_rgb
    factors = np.exp(rng.choice([-strength, strength], (len(images), 1, 1, 3)))
    factors[..., 2] = 1  # the residual that the two dyes do not explain
    return 255 * np.exp(-(dyes * factors) @ rgb_from_bex)


def colour_shift(images: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """A shifted white balance: each channel brighter or darker."""
    return images * np.exp(rng.choice([-strength, strength], (len(images), 1, 1, 3)))


def brightness(images: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """All channels brighter or darker."""
    return images * np.exp(rng.choice([-strength, strength], (len(images), 1, 1, 1)))


def contrast(images: np.ndarray, kept: float, rng: Generator) -> np.ndarray:
    """Lower contrast: all pixels moved towards the image's mean."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + kept * (images - mean)


def jpeg(images: np.ndarray, quality: float, rng: Generator) -> np.ndarray:
    """JPEG compression at the given quality."""
    result = []
    for image in to_bytes(images):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        result.append(np.asarray(Image.open(file)))
    return np.stack(result)


def pixelation(images: np.ndarray, share: float, rng: Generator) -> np.ndarray:
    """Fewer, larger pixels: `share` of the original number along each side."""
    side = images.shape[1]
    few = round(share * side)
    result = []
    for image in to_bytes(images):
        small = Image.fromarray(image).resize((few, few), Image.Resampling.BOX)
        result.append(np.asarray(small.resize((side, side), Image.Resampling.NEAREST)))
    return np.stack(result)


def bubbles(images: np.ndarray, count: float, rng: Generator) -> np.ndarray:
    """Air bubbles, bright with a dark rim."""
    return spotted(images, int(count), (1.5, 3.5), rng, inner=245, rim=90)


def specks(images: np.ndarray, count: float, rng: Generator) -> np.ndarray:
    """Dust: small dark spots."""
    return spotted(images, int(count), (0.6, 1.6), rng, inner=40, rim=40)


def spotted(
    images: np.ndarray,
    count: int,
    radii: tuple[float, float],
    rng: Generator,
    inner: float,
    rim: float,
) -> np.ndarray:
    """Images with `count` random disks of grey level `inner`, edged with half a pixel of `rim`."""
    images, side = images.copy(), images.shape[1]
    axis = np.arange(side)
    for _ in range(count):
        x, y = rng.uniform(0, side, (2, len(images), 1, 1))
        radius = rng.uniform(*radii, (len(images), 1, 1)) * side / 28
        depth = radius - np.hypot(axis[:, None] - y, axis - x)
        for grey, inset in ((rim, 0), (inner, 0.5 * side / 28)):
            cover = np.clip(depth - inset + 0.5, 0, 1)[..., None]
            images += cover * (grey - images)
    return images


def noise(images: np.ndarray, deviation: float, rng: Generator) -> np.ndarray:
    """Independent Gaussian noise of standard deviation `deviation`, in grey levels."""
    return images + rng.normal(0, deviation, images.shape)


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {  # strength at each severity
    "defocus": (defocus, (0.7, 0.9, 1.2, 1.6, 2.0)),
    "motion": (motion, (2, 4, 6, 8, 10)),
    "stain": (stain, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "colour shift": (colour_shift, (0.03, 0.06, 0.1, 0.15, 0.2)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.22, 0.3)),
    "contrast": (contrast, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "jpeg": (jpeg, (60, 40, 25, 15, 8)),
    "pixelation": (pixelation, (0.8, 0.7, 0.6, 0.5, 0.4)),
    "bubbles": (bubbles, (1, 2, 3, 4, 6)),
    "specks": (specks, (1, 2, 4, 6, 10)),
    "noise": (noise, (3, 6, 10, 16, 25)),
}


def corrupt(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupt uint8 images (N, H, W, 3); the same seed gives the same result.

    Raises `KeyError` for an unknown name and `IndexError` for a severity outside 1..5.
    """
    change, strengths = CORRUPTIONS[name]
    if severity not in SEVERITIES:
        raise IndexError(severity)
    # seeded without the severity: an image keeps its directions and spots at all severities
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    return to_bytes(change(images.astype(np.float64), strengths[severity - 1], rng))


def versions(
    images: np.ndarray, names: list[str], seed: int
) -> Iterator[tuple[str | None, int, np.ndarray]]:
    """Yield (name, severity, images): clean (None, 0), then each corruption at each severity."""
    yield None, 0, images
    for name in names:
        for severity in SEVERITIES:
            yield name, severity, corrupt(images, name, severity, seed)
