"""How a released network reads official images that are framed as another laboratory's are.

Framed by its nucleus, a cell has lost its size, by which platelets, erythroblasts and immature
granulocytes are known.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from PIL import Image

from bloodcells.data.bloodmnist import Split
from bloodcells.data.official_chain import BadImageError
from bloodcells.data.preparation import prepare
from bloodcells.evaluation.elsewhere import predict
from bloodcells.inference.classifier import Released

ENLARGED = 224  # pixels of the side in which cells are looked for


def frame(images: Split) -> Split | None:
    """The images enlarged, then cut around the nucleus; those without one are left out.

    None if no image has one, as where the stain is another.
    """
    size = images.images.shape[1]
    side = max(ENLARGED, size)
    found: dict[int, np.ndarray] = {}
    for row, pixels in enumerate(images.images):
        large = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        with suppress(BadImageError):
            found[row] = prepare(large, size, "cell").pixels
    if not found:
        return None
    return Split(np.stack(list(found.values())), images.labels[list(found)], images.names)


def left_out(images: Split, framed: Split) -> dict[str, int]:
    """How many images of each class have no nucleus that is found."""
    lost = images.class_counts() - framed.class_counts()
    return dict(zip(images.names, lost.tolist(), strict=True))


def score(model: Released, images: Split) -> dict:
    """The balanced accuracy and the recall of each class, taken as equally frequent."""
    right = predict(model, images)[0].argmax(1) == images.labels
    recalls = {
        name: float(right[images.labels == label].mean())
        for label, name in enumerate(images.names)
        if (images.labels == label).any()
    }
    return {"balanced_accuracy": float(np.mean(list(recalls.values()))), "recalls": recalls}
