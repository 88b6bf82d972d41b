"""Colours of 16 bits, of which Pillow reads 8: told, or refused where that goes wrong."""

import struct
import zlib

import numpy as np
import pytest
from drawn import noise, png_of

from bloodcells.data import user_images


def read_one(path):
    (cell,) = user_images.read([str(path)], size=28, frame="auto")
    return cell


@pytest.mark.parametrize(("used", "refused"), [(16, False), (14, True), (12, True)])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_16_bits_is_told(tmp_path, used, refused, channels):
    values = noise(28, 28, 3).astype(np.uint16) * 2 ** (used - 8)
    whole = np.full((28, 28, channels), 2**16 - 1, np.uint16)
    whole[..., :3] = values
    whole[0, 0, 3:] = 0  # one transparent pixel, which becomes white
    rows = [b"\0" + row.astype(">u2").tobytes() for row in whole]
    content = png_of(28, 28, 16, b"".join(rows), alpha=channels == 4)
    (tmp_path / "a.png").write_bytes(content)
    cell = read_one(tmp_path / "a.png")
    assert "16-bit colour" in (cell.problem if refused else cell.note)
    if not refused:
        assert (cell.pixels.reshape(-1, 3)[1:] == values.reshape(-1, 3)[1:] // 256).all()


def tiff_of(values, planes, packed):
    """A TIFF of 16-bit colours, (H, W, 3), one plane after the other or interleaved."""
    height, width, count = values.shape
    parts = np.moveaxis(values, 2, 0) if planes else [values]
    strips = [part.astype("<u2").tobytes() for part in parts]
    if packed:
        strips = [zlib.compress(strip) for strip in strips]
    starts = 8 + np.cumsum([0, *map(len, strips)])
    fields = [  # in the order of their numbers
        *((256, [width]), (257, [height]), (258, [16] * count), (259, [8 if packed else 1])),
        *((262, [2]), (273, starts[:-1]), (277, [count]), (278, [height])),
        *((279, [len(strip) for strip in strips]), (284, [2 if planes else 1])),
    ]
    after = int(starts[-1]) + 2 + 12 * len(fields) + 4
    entries, beyond = b"", b""
    for number, numbers in fields:  # all of 32 bits
        content = struct.pack(f"<{len(numbers)}I", *map(int, numbers))
        if len(numbers) > 1:
            beyond, content = beyond + content, struct.pack("<I", after + len(beyond))
        entries += struct.pack("<HHI", number, 4, len(numbers)) + content
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, int(starts[-1])) + b"".join(strips) + directory + beyond


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("planes", [False, True])
def test_planes_of_16_bits_are_read_right_or_refused(tmp_path, planes, packed):
    values = noise(28, 28, 3).astype(np.uint16) * 257
    (tmp_path / "a.tif").write_bytes(tiff_of(values, planes, packed))
    cell = read_one(tmp_path / "a.tif")
    if planes and not packed:  # which Pillow reads as noise
        assert "16-bit colours in separate planes: save them interleaved" in cell.problem
    else:
        assert (cell.pixels == values // 257).all()
        assert "16-bit colour, of which the upper 8 bits are used" in cell.note
