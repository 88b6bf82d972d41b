"""Images sorted into folders that are named after their classes: read, framed, numbered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bloodcells.cli.endings import printable
from bloodcells.data import class_names, user_images
from bloodcells.data.class_names import REMEDY, Names
from bloodcells.data.slides import check_pattern, slides_of
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
    files: list[str],
    names: Names,
    size: int,
    frame: str,
    slide: str | None,
    flag: str,
    remedy: str = REMEDY,
) -> LabelledImages:
    """The images under folders named after classes, prepared by `frame` as `user_images.read`.

    `files` are those that `image_files.find` finds at `paths`; `slide` is the pattern of
    `slides_of`. Prints which folders and images are left out, and how images were read if the user
    should know. Raises `UserError`, which names `flag`, if no image can be used, and for slides
    that cannot be told.
    """
    meanings = class_names.labels_of(files, names, flag, remedy)
    class_names.refuse_empty_folders(paths, files, names, flag)
    for line in class_names.unknown_folders(meanings, names, remedy):
        print(printable(line))
    known = [file for file, meaning in meanings.items() if meaning is not None]
    if slide:
        check_pattern(known, slide)  # or raises, before anything slow
    usable, unusable = [], 0
    for image in user_images.read(known, size, frame):
        if image.problem:
            unusable += 1
            print(printable(f"{image.name}: {image.problem}; left out"))
        else:
            usable.append(image)
            if image.note:
                print(printable(f"{image.name}: {image.note}"))
    if not usable:
        raise UserError(f"{flag}: none of the images can be used")
    used = [image.file for image in usable]
    labels = np.array([names.classes.index(str(meanings[file])) for file in used])
    return LabelledImages(usable, labels, slides_of(used, slide) if slide else None, unusable)
