"""The photographs that the official images were made from, and the stages that they show.

`photographs.csv.gz` has a row for each official image: its `split` and `index`, the `photograph` of
the Barcelona collection (Acevedo et al., Data in Brief 2020, Mendeley Data snkd93bnjr, CC BY 4.0),
its `stage` of maturation, its `width` and `height`, and `rms`, how far the photograph, reduced as
the official images were, is from the image: in grey levels, root mean square over pixels and
channels. It was made by reducing all 17,092 photographs and matching them with the official images
of their class, one to one. `twin` marks the 32 images whose photograph is there twice, under two
names, so that the name may be the other's. The stage comes from the photograph's name: BNE a band
neutrophil, SNE a segmented one, PMY a promyelocyte, MY a myelocyte, MMY a metamyelocyte.
"""

from __future__ import annotations

import csv
import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from bloodcells.data.official_chain import KEPT, compressed, fit, middle
from bloodcells.errors import UserError

TABLE = Path(__file__).with_name("photographs.csv.gz")
CLASS_OF = {  # of each stage, in the order of maturation within a class
    "basophil": "basophil",
    "eosinophil": "eosinophil",
    "erythroblast": "erythroblast",
    "promyelocyte": "immature granulocyte",
    "myelocyte": "immature granulocyte",
    "metamyelocyte": "immature granulocyte",
    "band neutrophil": "neutrophil",
    "segmented neutrophil": "neutrophil",
    "lymphocyte": "lymphocyte",
    "monocyte": "monocyte",
    "platelet": "platelet",
    "immature granulocyte (no stage)": "immature granulocyte",
    "neutrophil (no stage)": "neutrophil",
}
STAGES = tuple(name for name in CLASS_OF if "(no stage)" not in name)  # the eleven that are known


class Photograph(NamedTuple):
    """The source of one official image."""

    name: str  # of the file, from the collection's folder
    stage: str
    size: tuple[int, int]  # width and height
    rms: float
    twin: bool


def read_table() -> dict[str, list[Photograph]]:
    """The photographs by split, in the order of the official images."""
    found: dict[str, list[Photograph]] = {}
    with gzip.open(TABLE, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            size = int(row["width"]), int(row["height"])
            of_split = found.setdefault(row["split"], [])
            if int(row["index"]) != len(of_split):
                raise ValueError(f"{TABLE}: {row['split']} {row['index']} is out of order")
            of_split.append(
                Photograph(
                    row["photograph"], row["stage"], size, float(row["rms"]), row["twin"] == "1"
                )
            )
    return found


def rebuild(folder: Path, size: int, jpeg: bool) -> dict[str, np.ndarray]:
    """The official images by split, uint8 (N, size, size, 3), made anew from the photographs.

    The middle 200 x 200 pixels are resized and, with `jpeg`, compressed as the official images
    were. Raises `UserError` if a photograph is missing, damaged or of another size.
    """
    table = read_table()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {
            split: np.stack(
                list(
                    tqdm(
                        pool.map(lambda one: reduced(folder, one, size, jpeg), sources),
                        f"{split} images from photographs",
                        len(sources),
                        disable=None,
                    )
                )
            )
            for split, sources in table.items()
        }


def reduced(folder: Path, source: Photograph, size: int, jpeg: bool) -> np.ndarray:
    """The image made of one photograph, uint8 (size, size, 3). Raises `UserError`."""
    path = folder / source.name
    try:
        with Image.open(path) as image:
            photograph = image.convert("RGB")
    except OSError as error:
        raise UserError(
            f"--photographs {folder}: {source.name} cannot be read: {error}; the folder is the "
            "collection's PBC_dataset_normal_DIB"
        ) from error
    if photograph.size != source.size:
        raise UserError(
            f"--photographs {folder}: {source.name} has {photograph.width} x {photograph.height} "
            f"pixels, not {source.size[0]} x {source.size[1]}: not the collection's"
        )
    small = fit(middle(photograph, KEPT), size)
    return np.asarray(compressed(small) if jpeg else small)
