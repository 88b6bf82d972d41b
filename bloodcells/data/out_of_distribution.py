"""Out-of-distribution images, without blood cells, which a classifier should flag."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from bloodcells.data.official_chain import compressed, fit, to_bytes


def blank(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """A uniform field of random colour, with faint camera noise."""
    colour = rng.uniform(0, 255, (count, 1, 1, 3))
    return to_bytes(colour + rng.normal(0, 3, (count, size, size, 3)))


def noise(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Every value drawn independently from 0..255."""
    return rng.integers(0, 256, (count, size, size, 3), np.uint8)


def clouds(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Noise of amplitude inversely proportional to frequency, as in natural images."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    spectrum = np.fft.fft2(rng.normal(size=(count, 3, size, size)))
    waves = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / size)).real
    waves /= waves.std(axis=(1, 2, 3), keepdims=True)
    return to_bytes(128 + 50 * waves).transpose(0, 2, 3, 1)


def photograph(rng: np.random.Generator, count: int, size: int, name: str) -> np.ndarray:
    """Square crops, 60 to 400 pixels wide, of one of scikit-learn's two sample photographs."""
    whole = Image.fromarray(load_sample_image(name))
    images = []
    for side in rng.integers(60, 401, count):
        left = int(rng.integers(whole.width - side))
        top = int(rng.integers(whole.height - side))
        part = whole.crop((left, top, left + int(side), top + int(side)))
        images.append(shrunk(part, size))
    return np.stack(images)


def digits(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Handwritten digits from scikit-learn, dark on white, enlarged four times."""
    chosen = rng.choice(load_digits().images, count)
    large = to_bytes(255 - chosen * 15.9).repeat(4, axis=1).repeat(4, axis=2)
    drawn = (Image.fromarray(one).convert("RGB") for one in large)
    return np.stack([shrunk(one, size) for one in drawn])


def shrunk(image: Image.Image, size: int) -> np.ndarray:
    """A whole RGB image, of any size, by the steps that made the official images."""
    return np.asarray(compressed(fit(image, size)))


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "blank fields": blank,
    "noise": noise,
    "clouds": clouds,
    "photograph of a temple": partial(photograph, name="china.jpg"),
    "photograph of a flower": partial(photograph, name="flower.jpg"),
    "handwritten digits": digits,
}


def make(count: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """`count` images of each kind, uint8 (count, size, size, 3)."""
    return {
        kind: draw(np.random.default_rng([seed, number]), count, size)
        for number, (kind, draw) in enumerate(KINDS.items())
    }
