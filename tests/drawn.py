"""Images that tests draw."""

import struct
import zlib

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


def png_of(width, height, bits=8, content=b"0", alpha=False):
    """A PNG in colour; without content, its header promises more pixels than it has."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    kind = 6 if alpha else 2
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(content)) + end
