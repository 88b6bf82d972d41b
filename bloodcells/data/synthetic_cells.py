"""A generated stand-in for BloodMNIST: eight drawn cell types, for offline demos and tests.

Each cell is a few soft-edged ellipses (cytoplasm, nucleus lobes, granules) on a background of red
blood cells. The drawings resemble a stained smear only loosely: results on them mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COUNTS = {"train": 480, "val": 96, "test": 192}

PURPLE, PALE, PINK = (96, 50, 140), (205, 190, 225), (232, 178, 190)
BLUE, RED, DARK, BACKGROUND = (150, 160, 215), (224, 120, 110), (60, 30, 100), (240, 225, 222)

Colour = tuple[int, int, int]
Shape = tuple[float, float, float, float]  # centre x, centre y, radius x, radius y


@dataclass(frozen=True)
class CellType:
    """How a class is drawn; lengths are fractions of the image side, positions from its centre."""

    radius: float
    cytoplasm: Colour
    lobes: tuple[Shape, ...]
    granules: int = 0
    granule_colour: Colour = DARK


CELL_TYPES = (  # in the order of BloodMNIST's classes
    CellType(0.30, PALE, ((0, 0, 0.16, 0.14),), granules=40),
    CellType(0.30, PINK, ((-0.1, 0, 0.1, 0.13), (0.11, 0, 0.1, 0.13)), 40, RED),
    CellType(0.20, PINK, ((0, 0, 0.12, 0.12),)),
    CellType(0.36, PALE, ((-0.05, 0, 0.22, 0.25),), 25, PURPLE),
    CellType(0.22, BLUE, ((0, 0, 0.19, 0.19),)),
    CellType(
        0.36, BLUE, ((-0.1, -0.06, 0.12, 0.2), (0.1, -0.06, 0.12, 0.2), (0, -0.15, 0.15, 0.1))
    ),
    CellType(
        0.30, PINK, ((-0.14, 0.08, 0.08, 0.08), (0, -0.1, 0.09, 0.08), (0.14, 0.08, 0.08, 0.08))
    ),
    CellType(0.09, PALE, ((0, 0, 0.05, 0.05),)),
)


def make(size: int = 28, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images, uint8 (N, size, size, 3), and labels, int64 (N,), of each split in `COUNTS`."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, count in COUNTS.items():
        labels = rng.permutation(np.arange(count) % len(CELL_TYPES))
        splits[name] = np.stack([draw_cell(CELL_TYPES[i], size, rng) for i in labels]), labels
    return splits


def draw_cell(cell: CellType, size: int, rng: np.random.Generator) -> np.ndarray:
    """One image, uint8 (size, size, 3), of a randomly rotated, shifted, scaled and tinted cell."""
    image = np.empty((size, size, 3))
    image[:] = BACKGROUND
    for angle in rng.uniform(0, 2 * np.pi, 3):  # red blood cells, partly in view at the border
        paint(image, 0.52 * np.exp(1j * angle), 0.16, 0.16, 0, PINK)

    middle = complex(*rng.normal(0, 0.03, 2))
    angle, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.15)
    turn = scale * np.exp(1j * angle)
    paint(image, middle, scale * cell.radius, scale * cell.radius, 0, cell.cytoplasm)
    for x, y, radius_x, radius_y in cell.lobes:
        at = middle + turn * complex(x, y)
        paint(image, at, scale * radius_x, scale * radius_y, angle, PURPLE)
    for _ in range(cell.granules):
        distance = scale * cell.radius * np.sqrt(rng.uniform(0, 0.8))
        at = middle + distance * np.exp(1j * rng.uniform(0, 2 * np.pi))
        paint(image, at, 0.025, 0.025, 0, cell.granule_colour)

    image = image * rng.normal(1, 0.05) + rng.normal(0, 8, 3) + rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def paint(
    image: np.ndarray, at: complex, radius_x: float, radius_y: float, angle: float, colour: Colour
) -> None:
    """Blend an ellipse, rotated by `angle`, into `image`; its soft edge is about 1/28 wide.

    `at` is its centre, x + iy: points are complex numbers, so a rotation is a product.
    """
    reach = max(radius_x, radius_y) + 1 / 28
    rows, columns = (
        slice(max(0, int((c - reach + 0.5) * len(image))), int((c + reach + 0.5) * len(image)) + 1)
        for c in (at.imag, at.real)
    )
    axis = (np.arange(len(image)) + 0.5) / len(image) - 0.5
    points = (axis[columns] + 1j * axis[rows, None] - at) * np.exp(-1j * angle)
    depth = (1 - np.hypot(points.real / radius_x, points.imag / radius_y)) * min(radius_x, radius_y)
    alpha = np.clip(0.5 + depth * 28, 0, 1)[..., None]
    image[rows, columns] += alpha * (np.asarray(colour) - image[rows, columns])
