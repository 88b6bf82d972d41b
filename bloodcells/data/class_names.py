"""What laboratories call the classes, for images sorted into folders that are named after them."""

from __future__ import annotations

import os
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bloodcells.data import image_files
from bloodcells.data.photographs import CLASS_OF, STAGES
from bloodcells.errors import UserError

# In addition to the name itself. A plural s and a final "cell" are ignored.
SYNONYMS = {
    "basophil": ("ba", "baso"),
    "eosinophil": ("eo", "eosi", "eosino"),
    "erythroblast": ("ebo", "erb", "normoblast", "nrbc", "nucleated red blood"),
    "immature granulocyte": ("ig", "immature"),
    "promyelocyte": ("pmb", "pmo", "pmy", "promyelocyte bilobed"),
    "myelocyte": ("my", "myb"),
    "metamyelocyte": ("mmy", "mmz"),
    "lymphocyte": (
        *("ly", "lym", "lymp", "lympho", "lyt"),
        *("lymphocyte typical", "typical lymphocyte"),
    ),
    "monocyte": ("mo", "mon", "mono"),
    "neutrophil": ("ne", "neu", "neut", "neutro"),
    "band neutrophil": ("band", "bne", "neutrophil band", "ngb", "stab"),
    "segmented neutrophil": ("neutrophil segmented", "ngs", "seg", "segmented", "sne"),
    "platelet": ("plt", "thrombocyte"),
}
REMEDY = "map the name with --names"
NORMAL_DIFFERENTIAL = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")


def synonyms(name: str) -> list[str]:
    """Other names of a class: its own, and those of its stages of maturation."""
    stages = [stage for stage in STAGES if CLASS_OF[stage] == name != stage]
    return [*SYNONYMS.get(name, ()), *stages, *(s for stage in stages for s in SYNONYMS[stage])]


def normal_differential(classes: Sequence[str]) -> list[str]:
    """Those of some classes or stages that occur in normal blood as white cells."""
    return [name for name in classes if CLASS_OF.get(name, name) in NORMAL_DIFFERENTIAL]


class Names:
    """Which of `classes` a name means.

    Known are the classes' own names, their synonyms, and those in `own`, a user's TOML file with
    lines such as poly = "neutrophil". Raises `UserError` for a file that cannot be read, and for a
    name in it that is given another meaning than one of the classes.
    """

    def __init__(self, classes: Sequence[str], own: Path | None = None):
        self.classes = classes
        self.known = {plain(synonym): name for name in classes for synonym in synonyms(name)}
        self.known |= {plain(name): name for name in classes}  # rather than a synonym of another
        for synonym, meaning in read_toml(own).items() if own else ():
            if meaning not in classes:
                raise UserError(f"{own}: {synonym}: {meaning!r} is none of {', '.join(classes)}")
            self.known[plain(synonym)] = str(meaning)

    def meaning(self, name: str) -> str | None:
        """The class that a name means; None for one that is not known."""
        return self.known.get(plain(name))

    def meanings(self, flag: str, names: Sequence[str]) -> list[str]:
        """The classes that names mean, in the order of `classes`. Raises `UserError`."""
        wanted = {name: self.meaning(name) for name in names}
        if unknown := [name for name, meaning in wanted.items() if meaning is None]:
            raise UserError(f"{flag}: {unknown[0]!r} is none of {', '.join(self.classes)}")
        return [name for name in self.classes if name in wanted.values()]


def plain(name: str) -> str:
    """A name in lower case, its words apart, without a plural's s or "cell" at the end.

    Accents are composed, which some file systems take apart.
    """
    words = unicodedata.normalize("NFC", name).lower().replace("_", " ").replace("-", " ").split()
    if len(words) > 1 and words[-1] in ("cell", "cells"):
        words.pop()
    return " ".join(words).removesuffix("s") or name


def read_toml(path: Path) -> dict[str, object]:
    """A TOML file's content. Raises `UserError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a readable TOML file: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not a readable TOML file: nested too deeply") from error


def labels_of(
    files: Sequence[str], names: Names, flag: str = "--labelled", remedy: str = REMEDY
) -> dict[str, str | None]:
    """The class that the folder of each file is named after; None for a name that is not known.

    Raises `UserError` if no name is known, and for standard input, which has no folder.
    """
    if "-" in files:
        raise UserError(f"{flag}: standard input has no folder to name its class")
    folders = {file: folder_name(file) for file in files}
    labels = {file: names.meaning(folder) for file, folder in folders.items()}
    if not any(labels.values()):
        file, first = next(iter(folders.items()))
        raise UserError(
            f"{flag}: no folder is named after a class ({first!r} is none of "
            f"{', '.join(names.classes)}); {remedy_for(file, names, remedy)}"
        )
    return labels


def folder_name(file: str) -> str:
    """The name of the folder that a file lies in."""
    return os.path.basename(os.path.dirname(os.path.abspath(file)))


def remedy_for(file: str, names: Names, remedy: str) -> str:
    """What to do about a file whose folder is not named after a class."""
    stages = [stage for stage in names.classes if CLASS_OF.get(stage, stage) != stage]
    if kind := Names(sorted({CLASS_OF[stage] for stage in stages})).meaning(folder_name(file)):
        own = ", ".join(stage for stage in stages if CLASS_OF[stage] == kind)
        return f"it is a class, whose images have to be sorted by stage: {own}"
    above = folder_name(os.path.dirname(os.path.abspath(file)))
    if not names.meaning(above):
        return remedy
    return (
        f"{remedy}; or, if it is a slide, move its images up, into {above!r}, with the slide's "
        "name before theirs"
    )


def refuse_empty_folders(
    paths: Sequence[str], files: Sequence[str], names: Names, flag: str = "--labelled"
) -> None:
    """Raise `UserError` for a folder of `paths` named after a class that has none of `files`.

    Also for a link to such a folder, which is not followed. `files` were found there, so folders
    are not nested too deeply.
    """
    filled = {os.path.dirname(os.path.abspath(file)) for file in files}
    for path in (path for argument in paths for path in image_files.named(argument)):
        for parent, folders, _ in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in folders:
                link = os.path.join(parent, name)
                if names.meaning(name) and os.path.islink(link):
                    raise UserError(f"{flag}: {link}: a link to a folder is not followed")
            whole = os.path.abspath(parent)
            inside = any(folder == whole or folder.startswith(whole + os.sep) for folder in filled)
            if names.meaning(os.path.basename(whole)) and not inside:
                raise UserError(
                    f"{flag}: {parent}: named after a class, without images that can be read "
                    f"({' '.join(image_files.SUFFIXES)}); move the folder away"
                )


def unknown_folders(labels: dict[str, str | None], names: Names, remedy: str = REMEDY) -> list[str]:
    """A line for each unknown folder name, with the number of files left out of the scores."""
    unknown = Counter(
        (folder_name(file), remedy_for(file, names, remedy))
        for file, label in labels.items()
        if label is None
    )
    return [
        f"left out of the scores: {count} file{'s' * (count > 1)} in folders named {name!r}, which "
        f"is none of the {len(names.classes)} classes here; {what_to_do}"
        for (name, what_to_do), count in unknown.items()
    ]
