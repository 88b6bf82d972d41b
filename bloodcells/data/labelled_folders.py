"""Images sorted into folders that are named after their classes: read, framed, numbered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bloodcells.cli.endings import printable
from bloodcells.data import class_names, user_images
from bloodcells.data.class_names import REMEDY, Names
from bloodcells.data.slides import slides_of
from bloodcells.data.user_images import UserImage
from bloodcells.errors import UserError


class LabelledImages(NamedTuple):
    """Usable images, with the numbers of their classes and slides."""

    images: list[UserImage]
    labels: np.ndarray  # int64 (N,), indices of the names' classes
    slides: np.ndarray | None  # int64 (N,); None if not known
    unusable: int  # images beside these

    @property
    def pixels(self) -> np.ndarray:
        """The images as the network takes them, uint8 (N, size, size, 3)."""
        return np.stack([np.asarray(image.pixels) for image in self.images])


def read(
    paths: list[str],
    names: Names,
    size: int,
    frame: str,
    slide: str | None,
    flag: str,
    remedy: str = REMEDY,
) -> LabelledImages:
    """The images under folders named after classes, prepared by `frame` as `user_images.read`.

    `slide` is the pattern of `slides_of`. Prints which folders and images are left out, and how
    images were read if the user should know. Raises `UserError`, which names `flag`, if no image
    can be used, and for slides that cannot be told.
    """
    files = user_images.find(paths)
    meanings = class_names.labels_of(files, names, flag, remedy)
    class_names.refuse_empty_folders(paths, files, names, flag)
    for line in class_names.unknown_folders(meanings, remedy):
        print(printable(line))
    known = [file for file, meaning in meanings.items() if meaning is not None]
    if slide:
        slides_of(known, slide)  # or raises, before anything slow
    images = list(user_images.read(known, size, frame))
    for image in images:
        if image.problem:
            print(printable(f"{image.name}: {image.problem}; left out"))
        elif image.note:
            print(printable(f"{image.name}: {image.note}"))
    usable = [image for image in images if image.pixels is not None]
    if not usable:
        raise UserError(f"{flag}: none of the images can be used")
    if by_size := sum(image.by_size for image in usable):
        print(
            f"{by_size} of {len(usable)} images have a size of the data set's photographs, or of "
            "MedMNIST's, so they are not framed"
        )
    used = [image.file for image in usable]
    labels = np.array([names.classes.index(str(meanings[file])) for file in used])
    return LabelledImages(
        usable, labels, slides_of(used, slide) if slide else None, len(images) - len(usable)
    )
