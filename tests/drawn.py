"""Images that tests draw."""

import numpy as np
from PIL import Image, ImageDraw

BACKGROUND, NUCLEUS, RED_CELL = (232, 216, 220), (104, 58, 150), (215, 160, 165)


def field(size, *disks, colour=NUCLEUS):
    """A field of view with a nucleus at each (x, y, radius)."""
    image = Image.new("RGB", size, BACKGROUND)
    for x, y, radius in disks:
        box = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(image).ellipse(box, colour)
    return image


def noise(*shape):
    """Random bytes, always the same."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
