"""The released network for other programs: an entry point for torch.hub, and a folder to share.

    network = torch.hub.load("OWNER/REPOSITORY", "cellnet")    # of a clone: source="local"
    network.predict(images)    # PIL images, or uint8 (N, 28, 28, 3); probabilities (N, classes)

    python hubconf.py exported/    # writes a folder as the Hugging Face hub expects it

The folder holds the weights (model.safetensors), their card (config.json), models.py, and the model
card with the hub's metadata (README.md). Nothing is uploaded.
"""

from __future__ import annotations

from bloodcells.cli.arguments import run_script
from bloodcells.cli.tools import parse_hub

if __name__ == "__main__":
    run_script(parse_hub, __file__)  # answers --help and wrong flags before torch loads

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from bloodcells.data import preparation, user_images
from bloodcells.errors import UserError
from bloodcells.tracking import run_folder
from bloodcells.tracking.files import read_entry
from bloodcells.training.device import choose_device

dependencies = [  # torch.hub checks that they are there
    *("torch", "numpy", "PIL", "safetensors", "scipy", "skimage", "tqdm", "joblib", "filelock"),
]
FOLDER = Path(__file__).resolve().parent
RELEASED = "cnn-robust"  # the name of the weights
Images = Sequence[Image.Image] | np.ndarray | Tensor


@contextlib.contextmanager
def _own_modules() -> Iterator[None]:
    """Within the block, `import` finds this project's `models`, not another program's.

    Afterwards the process has its own module `models` again, and its own `sys.path`.
    """
    others = sys.modules.get("models")
    ours = getattr(others, "__file__", None) == str(FOLDER / "models.py")
    if not ours:
        sys.modules.pop("models", None)
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        if not ours:
            sys.modules.pop("models", None)
        if others is not None:
            sys.modules["models"] = others


with _own_modules():
    from bloodcells.inference.classifier import Released, load_classifier


class ReleasedNetwork(nn.Module):
    """A released network, with normalisation, calibration and test-time augmentation inside."""

    def __init__(self, model: Released):
        """`model` is what `load_classifier` returns."""
        super().__init__()
        self.classifier = model.classifier
        self.model, self.classes, self.size = model, tuple(model.classes), model.size

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, size, size, 3) to float32 probabilities (N, classes)."""
        probabilities: Tensor = self.classifier(images)[0]
        return probabilities

    def predict(self, images: Images, frame: str = "auto", foreign: bool = False) -> Tensor:
        """The probabilities of images, float32 (N, classes), on the CPU.

        A list of PIL images, of any size: they are turned, and framed as by `predict.py --frame`,
        and for an image that is not of the data set's kind all classes count as equally frequent.
        Or an array, uint8 (N, size, size, 3), of the data set's kind unless it is said to be
        `foreign`. Raises `ValueError` for any other input or frame, and for an image in which no
        cell is found.
        """
        return torch.from_numpy(self.answers(images, frame, foreign)[0]).float()

    def unlike(self, images: Images, frame: str = "auto") -> Tensor:
        """Which images are unlike the training images, bool (N,): do not rely on their classes.

        The images, the frame and the errors are those of `predict`.
        """
        return torch.from_numpy(self.answers(images, frame, False)[1] > self.model.farthest)

    def answers(self, images: Images, frame: str, foreign: bool) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities, and the distances to the training images. As `predict`."""
        if frame not in ("auto", "cell", "centre", "none"):
            raise ValueError(f"no frame {frame!r}: it is auto, cell, centre or none")
        if isinstance(images, np.ndarray | Tensor):
            if images.dtype not in (np.uint8, torch.uint8):
                raise ValueError(f"images are {images.dtype}, not uint8")
            pixels = np.array(images.cpu() if isinstance(images, Tensor) else images)  # a copy
            kinds = np.full(pixels.shape[:1], foreign)
        else:
            pixels, kinds = self.prepared(images, frame)
        if pixels.shape[1:] != (self.size, self.size, 3):
            raise ValueError(
                f"images are of shape {pixels.shape}, not (N, {self.size}, {self.size}, 3)"
            )
        if not len(pixels):
            return np.empty((0, len(self.classes))), np.empty(0)
        self.model.classifier.eval()
        probabilities, distances = self.model.predict(pixels, kinds, batch_size=128)
        return probabilities, distances

    def prepared(self, images: Sequence[Image.Image], frame: str) -> tuple[np.ndarray, np.ndarray]:
        """The images' pixels, uint8 (N, size, size, 3), and which are foreign, bool (N,)."""
        if not isinstance(images, Sequence):
            raise ValueError("images are neither a list nor an array")
        pixels, foreign = np.empty((len(images), self.size, self.size, 3), np.uint8), []
        for number, image in enumerate(images):
            if not isinstance(image, Image.Image):
                raise ValueError(f"image {number} is no PIL image; stack arrays into one array")
            try:
                upright = user_images.to_rgb(ImageOps.exif_transpose(image))
                one = preparation.prepare(upright, self.size, frame)
            except (preparation.BadImageError, OSError, SyntaxError) as error:  # Pillow's, lazily
                raise ValueError(f"image {number}: {error}") from error
            pixels[number] = one.pixels
            foreign.append(one.foreign)
        return pixels, np.array(foreign, bool)


def cellnet(weights: str = RELEASED, views: int = 1, device: str = "cpu") -> ReleasedNetwork:
    """The released network. `weights` names a file of weights/ (its MD5 is checked).

    `views` is 1, or 8 for test-time augmentation. Raises `ValueError` for other arguments and for
    damaged weights.
    """
    if views not in (1, 8):
        raise ValueError(f"views is {views}, not 1 or 8")
    if device not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"device is {device!r}, not auto, cpu, cuda or mps")
    path = FOLDER / "weights" / f"{weights}.safetensors"
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    try:
        model = load_classifier(path, views, choose_device(device), "weights")
    except UserError as error:
        raise ValueError(str(error)) from error
    finally:  # both are the program's own
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
    return ReleasedNetwork(model)


MODEL_TYPE = "cellnet"  # in config.json
EXPORTED = {"README.md", "config.json", "model.safetensors", "models.py"}
METADATA = """---
license: mit
library_name: pytorch
pipeline_tag: image-classification
tags:
- pytorch
- safetensors
- biology
- medical
- microscopy
- blood-cells
model-index:
- name: {name}
  results:
  - task:
      type: image-classification
    dataset:
      name: BloodMNIST, 28 pixels
      type: medmnist-v2
      config: bloodmnist
      split: test
    metrics:
    - type: accuracy
      name: accuracy, one view
      value: {one}
    - type: accuracy
      name: accuracy, eight views
      value: {eight}
---
"""
USE = """
## Use this folder

Beside `models.py`, with torch and safetensors:

```python
import json

import torch
from safetensors.torch import load_file

import models

with open("config.json") as file:
    card = json.load(file)
network = models.build(card["model"], card["size"], card["widths"]).eval()
state = load_file("model.safetensors")
prefix = "network."
network.load_state_dict(
    {k.removeprefix(prefix): w.float() for k, w in state.items() if k.startswith(prefix)}
)
images = torch.zeros(1, 3, 28, 28)  # pixels from 0 to 255
with torch.inference_mode():
    logits = network(images / 127.5 - 1)
probabilities = (logits.log_softmax(1) / card["calibration"]["1"]["temperature"]).softmax(1)
print(dict(zip(card["classes"], probabilities[0].tolist())))
```
"""


def export_for_hub(folder: Path) -> None:
    """Write the released network as a folder that the Hugging Face hub's conventions accept.

    Raises `UserError` if it cannot be written.
    """
    from bloodcells.reporting.tables.release import read_release  # needs more packages

    source = FOLDER / "weights" / f"{RELEASED}.safetensors"
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    there = {name for name in there if not name.startswith(".")}  # of a killed process
    if there - EXPORTED or (there and not _is_exported(folder / "config.json")):
        raise UserError(
            f"{folder}: it holds other files, or an unfinished export; pass a new folder"
        )
    load_classifier(source, 1, torch.device("cpu"))  # raises for a damaged pair
    card = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    accuracy = read_release(FOLDER / "plots")["released"]["accuracy"]
    metadata = METADATA.format(name=RELEASED, one=accuracy["1"], eight=accuracy["8"])
    text = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    config = {
        "architectures": [card["model"]],
        "model_type": MODEL_TYPE,
        "id2label": {str(number): name for number, name in enumerate(card["classes"])},
        "label2id": {name: number for number, name in enumerate(card["classes"])},
        **card,
    }

    def fill(scratch: Path) -> None:
        shutil.copyfile(source, scratch / "model.safetensors")
        shutil.copyfile(FOLDER / "models.py", scratch / "models.py")
        readme = metadata + _without_links(text) + USE
        (scratch / "README.md").write_text(readme, encoding="utf-8")
        run_folder.write_json(scratch / "config.json", config)

    run_folder.prepare(folder, flag="FOLDER")
    run_folder.write(folder, fill, last="config.json")


def _is_exported(path: Path) -> bool:
    """Whether a file is the config.json of a folder that `export_for_hub` wrote."""
    return read_entry(path, "model_type") == MODEL_TYPE


def _without_links(text: str) -> str:
    """Markdown without images, and without links to files that only the repository has."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


def main() -> None:
    """Write the folder that the command line names."""
    args = parse_hub(__file__)
    export_for_hub(args.folder)
    print(f"wrote {args.folder}")


if __name__ == "__main__":
    run_script(main)
