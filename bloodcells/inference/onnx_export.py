"""The released classifier as one ONNX file that takes raw images, checked against torch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch

from bloodcells.data import synthetic_cells
from bloodcells.errors import UserError
from bloodcells.inference.classifier import Classifier, Released
from bloodcells.tracking.atomic import scratch_folder, write_whole

OUTPUTS = ("probabilities", "distances")
TOLERANCE = 1e-4


def export(model: Released, path: Path, images: np.ndarray | None) -> str:
    """Write `path` and compare it with torch on images (N, H, H, 3), or on generated ones.

    The file's input `images` is uint8 (N, H, H, 3); its outputs `OUTPUTS` are those of
    `Classifier`. Returns one line on the comparison. Raises `UserError` if the file cannot be
    written or its outputs differ from torch's.
    """
    if path.suffix != ".onnx" or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--export {path}: not a name ending in .onnx in an existing folder")
    if images is None:
        pixels, kind = synthetic_cells.make(model.size)["test"][0], "drawn cells"
    else:
        pixels, kind = images, "images"
    classifier = model.classifier.cpu()
    try:
        with scratch_folder(path.parent) as scratch:
            write(classifier, scratch / path.name, model.size)
            difference, agreed = compare(classifier, scratch / path.name, torch.from_numpy(pixels))
            if not difference <= TOLERANCE:  # NaN is not
                raise UserError(f"--export: onnxruntime differs from torch by {difference:.1e}")
            write_whole(path, (scratch / path.name).read_bytes())
    except OSError as error:
        raise UserError(f"--export {path}: cannot write: {error.strerror or error}") from error
    return (
        f"wrote {path}; against torch on {len(pixels)} {kind}: the same label on {agreed}, "
        f"largest difference {difference:.1e}"
    )


def write(classifier: torch.nn.Module, path: Path, size: int) -> None:
    """Export with a variable batch size."""
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own exporter
        torch.onnx.export(
            classifier,
            (example,),
            path,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def compare(classifier: Classifier, path: Path, images: torch.Tensor) -> tuple[float, int]:
    """The largest difference of a number, and how many images have the same predicted class."""
    import onnxruntime  # takes half a second to load, so only the export loads it

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    largest, agreed = 0.0, 0
    for batch in images.split(1024):
        expected, far = (part.numpy() for part in classifier.predict(batch))
        got, got_far = session.run(list(OUTPUTS), {"images": batch.numpy()})
        differences = abs(expected - got).max(), abs(far - got_far).max()
        largest = float(np.max([largest, *differences]))  # NaN if any is
        agreed += int((expected.argmax(1) == got.argmax(1)).sum())
    return largest, agreed
