"""Arrays of images in a user's .npy and .npz files: found, loaded, brought to 8 bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from bloodcells.data.preparation import BadImageError

MOST_BYTES = 2**32  # limit for an array in an .npz, which must be unpacked whole
DARK = 2  # no image in 0..255 is as dark as that
CHUNK = 2**22  # numbers of an array that are looked at together
FEW_LEVELS = 64  # of 256: what is left of fewer bits than those that are read


def arrays_of(name: str) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """The name of each array to read from the file, and a function that loads it."""
    try:
        loaded = np.load(name, allow_pickle=False, mmap_mode="r")
    except PermissionError as error:
        raise BadImageError("permission denied") from error
    except Exception as error:  # a damaged file raises exceptions of many kinds
        refuse_objects(error)
        raise BadImageError("not an array file that can be read") from error
    if isinstance(loaded, np.ndarray):
        yield name, lambda: loaded
        return
    with loaded:
        members = set(loaded.zip.namelist())
        keys = [key for key in loaded.files if "image" in key] or loaded.files
        if not keys:
            raise BadImageError("holds no arrays")
        for key in keys:

            def load(key: str = key) -> np.ndarray:
                member = key if key in members else f"{key}.npy"
                if loaded.zip.getinfo(member).file_size > MOST_BYTES:
                    raise BadImageError("over 4 GiB: save it as .npy, which is read in parts")
                try:
                    return loaded[key]
                except ValueError as error:
                    refuse_objects(error)
                    raise
                except MemoryError as error:  # its header may claim any size
                    raise BadImageError("does not fit into memory") from error

            yield f"{name}:{key}" if len(keys) > 1 else name, load


def refuse_objects(error: Exception) -> None:
    """Raise `BadImageError` if NumPy refused an array of objects, as of images that differ."""
    if re.search("Object arrays|Python objects", str(error)):
        raise BadImageError("holds objects, perhaps images of several sizes") from error


def to_stack(array: np.ndarray) -> np.ndarray:
    """Reshape an array of images to (N, H, W, C), keeping its dtype. Raises `BadImageError`."""
    shape = array.shape
    if array.ndim == 3 and shape[0] in (3, 4) and shape[-1] not in (1, 3, 4):
        raise BadImageError(
            f"shape {shape}: for one image, put the channels last; for {shape[0]} grey images, add "
            "an axis of length 1 at the end"
        )
    if array.ndim == 2 or (array.ndim == 3 and shape[-1] in (1, 3, 4)):
        array = array[None]
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4) or 0 in shape:
        raise BadImageError(f"shape {shape} is not (N, H, W, 3), (N, H, W), or one image of these")
    if array.dtype.kind not in "uif":
        raise BadImageError(f"holds {array.dtype}, not real numbers")
    return array


def full_scale(values: np.ndarray) -> int:
    """The value of full brightness: 255, 4095 or 65535; in floating point 1 or 255.

    It is the smallest of these that no value exceeds, so pass all images of an array at once. In
    floating point, what exceeds 1 by less than to `DARK` is in 0..1. Raises `BadImageError` for
    integers that fill little of the range: they may be of 10 or 14 bits, or of 8 and a little more.
    """
    if values.dtype == np.uint8:
        return 255
    step = max(1, CHUNK // values[0].size)
    parts = (values[i : i + step] for i in range(0, len(values), step))  # they may be mapped
    top = max(np.nanmax(part, initial=0, where=np.isfinite(part)) for part in parts)
    if values.dtype.kind == "f":
        return 1 if top <= DARK else 255
    full = next((full for full in (255, 4095) if top <= full), 65535)
    if full > 255 and 255 * float(top) / full < FEW_LEVELS:
        raise BadImageError(f"values up to {top}, few of 0 to {full}: scale them to 0 to 255")
    return full


def to_bytes(values: np.ndarray, full: int) -> np.ndarray:
    """Scale 0..full to uint8. Raises `BadImageError` for values outside it, NaN or infinite.

    In floating point, values are clipped that interpolation may have moved out, by up to 2 %.
    """
    if values.dtype == np.uint8:
        return values
    low, high = values.min(), values.max()  # NaN if any value is NaN
    if values.dtype.kind == "f" and full > 1 and 0 < high <= DARK:
        raise BadImageError(f"values up to {high:g}, among images up to {full}: scale all alike")
    slack = 0.02 * full if values.dtype.kind == "f" else 0
    if not -slack <= low <= high <= full + slack:
        raise BadImageError(f"values of {low:g} to {high:g} instead of 0 to {full}")
    return np.rint(values.clip(0, full) * (255 / full)).astype(np.uint8)
