"""Find cells by their stained nuclei, and frame them as the training images frame theirs.

Romanowsky stains (Giemsa, Wright, May-Grünwald) colour nuclei purple: blue exceeds green there, and
hardly elsewhere. Otsu's threshold on that difference separates the stained cell from the
background; a second one, within the cell, separates the nucleus from the cytoplasm. `find_cell`
finds platelets, which have no nucleus, by their granules; `find_cells` leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import convex_hull_image, disk, opening
from skimage.segmentation import clear_border

WORKING_SIDE = 96  # pixels of the longer side at which one cell is looked for
SHARE = 0.26  # of the square, taken by the convex hull of the nucleus
LEAST, MOST = 0.3, 1.0  # bounds on the square's side, as a share of the image's shorter side
LEAST_CONTRAST = 5.0  # grey levels between nucleus and surroundings
LEAST_AREA = 12  # working pixels of a nucleus
FIELD_SIDE = 768  # pixels of the longer side at which the cells of a field are looked for
SMALL = 0.2  # of the typical nucleus's area; what is smaller is a platelet or dirt
LEAST_DIAMETER = 6  # working pixels of a nucleus in a field that is surely found
LOBES = 4  # working pixels; half the largest gap between lobes of one nucleus
CENTRE = 0.35  # share of the image's side over which a cell's weight falls off from the middle


@dataclass(frozen=True)
class Square:
    """A square of an image, in pixels: its centre and its side."""

    x: float
    y: float
    side: float


def stain(image: np.ndarray) -> np.ndarray:
    """How far blue exceeds green, smoothed: float (H, W) of an RGB image (H, W, 3)."""
    values = image.astype(np.float32)
    return gaussian_filter(values[..., 2] - values[..., 1], 1.2)


def nuclei(image: Image.Image, scale: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The `stain` of an RGB image resized by `scale`, and True on its nuclei, bool (H, W).

    None where nothing is stained.
    """
    small = image.resize([max(1, round(side * scale)) for side in image.size])
    strength = stain(np.asarray(small))
    if np.ptp(strength) == 0:
        return None
    threshold = threshold_otsu(strength)
    stained = strength > threshold
    if not stained.any() or np.ptp(strength[stained]) == 0:
        return None
    found = opening(stained & (strength > threshold_otsu(strength[stained])), disk(1))
    if not found.any() or strength[found].mean() - np.median(strength[~found]) < LEAST_CONTRAST:
        return None
    return strength, found


def find_cell(image: Image.Image) -> Square | None:
    """The square that frames the main cell of an RGB image (`middle_nucleus`); None without one."""
    scale = WORKING_SIDE / max(image.size)
    if (stained := nuclei(image, scale)) is None:
        return None
    nucleus = middle_nucleus(*stained)
    if nucleus.sum() < LEAST_AREA:
        return None
    hull = convex_hull_image(nucleus)
    y, x = (np.argwhere(hull).mean(0) + 0.5) / scale
    shorter = min(image.size)
    side = np.clip(np.sqrt(hull.sum() / SHARE) / scale, LEAST * shorter, MOST * shorter)
    return Square(float(x), float(y), float(side))


def find_cells(image: Image.Image) -> list[Square]:
    """The squares that frame the nucleated cells of a field of view, an RGB image, row by row.

    Cells whose nucleus touches the border are left out, as is whatever is much smaller than the
    typical nucleus, such as platelets. Nuclei that are close together count as one cell.
    """
    scale = field_scale(image)
    if (stained := nuclei(image, scale)) is None:
        return []
    _, found = stained
    # that in which the middle of the stained area lies, so neither a clump nor granules set it
    areas = np.sort(np.bincount(clear_border(label(found)).ravel())[1:])
    if not areas.any():
        return []
    typical = areas[np.searchsorted(areas.cumsum(), areas.sum() / 2)]
    radius = max(1, round(0.25 * typical**0.5))
    cells = label(joined(found, radius)) * found
    squares = []
    for part in regionprops(cells):
        top, left, bottom, right = part.bbox
        cut_off = min(top, left) == 0 or bottom == found.shape[0] or right == found.shape[1]
        if part.area < max(SMALL * typical, LEAST_AREA) or cut_off:
            continue
        hull = part.image_convex
        y, x = (np.argwhere(hull).mean(0) + np.array([top + 0.5, left + 0.5])) / scale
        squares.append(Square(float(x), float(y), float(np.sqrt(hull.sum() / SHARE) / scale)))
    return squares


def field_scale(image: Image.Image) -> float:
    """The scale at which the cells of a field of view are looked for."""
    return min(1.0, FIELD_SIDE / max(image.size))


def least_nucleus(image: Image.Image) -> int:
    """The diameter, in pixels of a field of view, under which `find_cells` misses nuclei."""
    return round(LEAST_DIAMETER / field_scale(image))


def middle_nucleus(strength: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Of the nuclei `found`, the one in the middle with all its lobes: bool (H, W).

    It is the component with the most stain, weighted by its closeness to the middle.
    """
    height, width = found.shape
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5)
    weight = np.exp(-((distance / CENTRE) ** 2)) * (strength - strength[~found].mean())
    parts = label(found)
    best = np.bincount(parts[found], weights=weight[found]).argmax()
    cells = label(joined(found, LOBES))
    return found & (cells == cells[parts == best][0])


def joined(found: np.ndarray, radius: int) -> np.ndarray:
    """The nuclei, bool (H, W), with gaps closed, such as those between a nucleus's lobes.

    A morphological closing by a disk, whose time does not grow with the radius.
    """
    grown = distance_transform_edt(~np.pad(found, radius)) <= radius
    return (distance_transform_edt(grown) > radius)[radius:-radius, radius:-radius]


def cut(image: Image.Image, square: Square) -> Image.Image:
    """The square of an image, mirrored where it reaches beyond the border."""
    side = max(1, round(square.side))
    left, top = round(square.x - side / 2), round(square.y - side / 2)
    if left >= 0 and top >= 0 and left + side <= image.width and top + side <= image.height:
        return image.crop((left, top, left + side, top + side))
    columns, rows = (
        mirrored(np.arange(start, start + side), length)
        for start, length in ((left, image.width), (top, image.height))
    )
    return Image.fromarray(np.asarray(image)[rows[:, None], columns])


def mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Indices beyond 0..length-1 mirrored at the border, over and over."""
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)
