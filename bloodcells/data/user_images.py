"""A user's images, read and prepared: what `predict.py` feeds to the network."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import joblib
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PLANAR_CONFIGURATION

from bloodcells.data.framing import Square, cut, find_cells, least_nucleus
from bloodcells.data.image_files import ARRAYS, STANDARD_INPUT
from bloodcells.data.preparation import NO_CELL, BadImageError, Prepared, prepare
from bloodcells.data.user_arrays import FEW_LEVELS, arrays_of, full_scale, to_bytes, to_stack

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
MOST_PIXELS = 50_000_000  # limit, checked before decoding
MOST_TEXT = 2**26  # bytes of a PNG's colour profile, or of a microscope's notes in it
MOST_THREADS = 8  # that read, as each may hold 0.2 to 0.8 GB
SMALL_NUCLEUS = 28  # pixels across: a lymphocyte's at 0.25 micrometres a pixel
GONE = "not a regular file, or gone"
FIRST_FRAME = "the first of several frames"


@dataclass(frozen=True)
class UserImage:
    """One image, ready for the network, or the reason why it cannot be used."""

    file: str
    name: str  # the file; for an array file, followed by the image's index in brackets
    pixels: np.ndarray | None = None  # uint8 (size, size, 3)
    note: str | None = None  # how it was read, if the user should know
    problem: str | None = None  # why there are no pixels
    square: Square | None = None  # where it was found in a field of view
    foreign: bool = False  # not of the data set's kind, by `preparation.prepare`
    by_size: bool = False  # not framed for its size alone, by `preparation.prepare`


def read(names: list[str], size: int, frame: str) -> Iterator[UserImage]:
    """The images of the files, prepared; one that cannot be used comes with its `problem`.

    Several threads read a few files ahead, so that memory does not grow with the number of files.
    `frame` is that of `preparation.prepare`, or "detect": then each cell of a field of view is one.
    """
    PngImagePlugin.MAX_TEXT_CHUNK = MOST_TEXT
    threads = min(joblib.cpu_count(), MOST_THREADS)
    pool = ThreadPoolExecutor(threads)
    ahead: deque[Future[list[UserImage]] | Iterator[UserImage]] = deque()  # in the files' order
    try:
        with warnings.catch_warnings():
            # most of what Pillow warns of leaves the pixels intact
            warnings.filterwarnings("ignore", module="PIL")
            for name in names:
                images = read_file(name, size, frame)
                # an array may have a million images; standard input may never end
                here = name == STANDARD_INPUT or name.lower().endswith(ARRAYS)
                ahead.append(images if here else pool.submit(list, images))
                if len(ahead) > 2 * threads:
                    yield from done(ahead.popleft())
            while ahead:
                yield from done(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def done(images: Future[list[UserImage]] | Iterator[UserImage]) -> Iterable[UserImage]:
    """The images of a file, once they are read."""
    return images.result() if isinstance(images, Future) else images


def read_file(name: str, size: int, frame: str) -> Iterator[UserImage]:
    """The images of one file; as `read`."""
    try:
        if os.path.isdir(name):
            raise BadImageError("a link to a folder, not followed; name it in the command")
        if name != STANDARD_INPUT and not os.path.isfile(name):
            raise BadImageError(GONE)
        if name.lower().endswith(ARRAYS):
            yield from read_arrays(name, size, frame)
            return
        image, note = open_image(standard_input() if name == STANDARD_INPUT else name)
        if frame == "detect":
            yield from detect(name, image, size, note)
        else:
            try:
                prepared = prepare(image, size, frame)
            except BadImageError as error:
                raise BadImageError(joined(str(error), note)) from error
            yield UserImage(name, name, note=note, **prepared._asdict())
    except BadImageError as error:
        yield UserImage(name, name, problem=str(error))


def joined(*texts: str | None) -> str:
    """Those of the texts that there are, in one."""
    return "; ".join(text for text in texts if text)


def detect(name: str, image: Image.Image, size: int, note: str | None) -> Iterator[UserImage]:
    """The cells of a field of view, each as an image, the first with the field's note.

    Raises `BadImageError` if there are none.
    """
    squares = find_cells(image)
    if (least := least_nucleus(image)) > SMALL_NUCLEUS:
        note = joined(note, f"nuclei under {least} pixels across are missed: cut it into parts")
    if not squares:
        raise BadImageError(joined(NO_CELL, note))
    for number, square in enumerate(squares, start=1):
        one, of_field = f"{name}#{number}", note if number == 1 else None
        try:
            pixels = prepare(cut(image, square), size, "none").pixels
            yield UserImage(name, one, pixels, of_field, square=square, foreign=True)
        except BadImageError as error:
            yield UserImage(name, one, problem=str(error), square=square)


def standard_input() -> io.BytesIO:
    """Read all of standard input. Raises `BadImageError`."""
    try:
        content = sys.stdin.buffer.read(4 * MOST_PIXELS + 1)
    except (OSError, ValueError, AttributeError) as error:  # closed or missing
        raise BadImageError("standard input cannot be read") from error
    if len(content) > 4 * MOST_PIXELS:
        raise BadImageError("over 200 million bytes")
    return io.BytesIO(content)


def open_image(source: str | io.BytesIO) -> tuple[Image.Image, str | None]:
    """An image file in RGB, and a note on it. Raises `BadImageError`."""
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadImageError(too_many(image.width, image.height))
            notes = [FIRST_FRAME] if is_animated(image) else []
            image.seek(0)
            if load(image):
                notes.append("16-bit colour, of which the upper 8 bits are used")
            if not turned_upright(image):
                notes.append("damaged EXIF data, so it may lie on its side")
            return to_rgb(image), joined(*notes) or None
    except (BadImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError(f"over {MOST_PIXELS:,} pixels: cut it into parts") from error
    except UnidentifiedImageError as error:
        raise BadImageError("not an image that can be read") from error
    except PermissionError as error:
        raise BadImageError("permission denied") from error
    except Exception as error:  # Pillow raises exceptions of many kinds for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"damaged: {reason[:200]}") from error


def turned_upright(image: Image.Image) -> bool:
    """Turn an image as its EXIF data say; returns whether they could be read."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged data raise exceptions of many kinds
        return False
    return True


def is_animated(image: Image.Image) -> bool:
    """Whether an image has several frames."""
    return getattr(image, "is_animated", False)


def load(image: Image.Image) -> bool:
    """Load an image's pixels; returns whether it has 16 bits per colour, of which Pillow reads 8.

    Raises `BadImageError` if it does not read them right, and Pillow's errors for damaged pixels.
    """
    deep = is_deep_colour(image)
    image.load()
    if deep and np.asarray(image)[..., :3].max() < FEW_LEVELS:
        raise BadImageError("16-bit colour of which few bits are used: save 8 bits")
    return deep


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image, not yet loaded, has 16 bits per colour, of which Pillow reads 8.

    Raises `BadImageError` for uncompressed planes of colours, of which it would read noise.
    """
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        return False
    tags, tiles = getattr(image, "tag_v2", {}), str(getattr(image, "tile", ""))
    planes = tags.get(PLANAR_CONFIGURATION) == 2 and 16 in tags.get(BITSPERSAMPLE, ())
    if planes and "raw" in tiles:
        raise BadImageError("16-bit colours in separate planes: save them interleaved, or 8 bits")
    return ";16" in tiles


def too_many(width: int, height: int) -> str:
    """What is said of an image over the limit."""
    return f"{width} x {height} pixels, over {MOST_PIXELS:,}: cut it into parts"


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB, transparency to white. Raises `BadImageError` for bad values."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit or floating-point grey
        values, clear = np.asarray(image), image.info.get("transparency")
        grey = to_bytes(values, full_scale(values))
        if isinstance(clear, int):  # of a PNG; Pillow minds it in 8-bit images only
            grey = np.dstack([grey, np.where(values == clear, 0, 255).astype(np.uint8)])
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if not np.asarray(image)[..., 3].any():
            raise BadImageError("transparent everywhere: save it without its alpha channel")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")  # saves a copy


def read_arrays(name: str, size: int, frame: str) -> Iterator[UserImage]:
    """The images of a .npy or .npz file: (N, H, W, 3), (N, H, W), or one image without N.

    Of an .npz, reads the arrays with "image" in their names, or all if no name has it. Raises
    `BadImageError` for a file that cannot be read.
    """
    if frame == "detect":
        raise BadImageError("an array, whose images are of single cells: --detect needs pictures")
    for label, load in arrays_of(name):
        try:
            stack = to_stack(load())
            full = full_scale(stack)
        except BadImageError as error:
            yield UserImage(name, label, problem=str(error))
            continue
        except MemoryError:
            raise
        except Exception:  # a damaged array raises exceptions of many kinds
            yield UserImage(name, label, problem="not an array of numbers that can be read")
            continue
        for number, pixels in enumerate(stack):
            one = f"{label}[{number}]"
            try:
                prepared = prepare_array(pixels, full, size, frame)
                yield UserImage(name, one, **prepared._asdict())
            except BadImageError as error:
                yield UserImage(name, one, problem=str(error))


def prepare_array(pixels: np.ndarray, full: int, size: int, frame: str) -> Prepared:
    """`prepare` for one image of an array, (H, W, C). Raises `BadImageError`."""
    height, width, channels = pixels.shape
    if height * width > MOST_PIXELS:
        raise BadImageError(too_many(width, height))
    values = np.ascontiguousarray(to_bytes(pixels, full))
    image = Image.fromarray(values[..., 0] if channels == 1 else values)
    return prepare(to_rgb(image), size, frame)
