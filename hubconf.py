"""The released network for other programs: an entry point for torch.hub, and a folder to share.

    network = torch.hub.load("OWNER/REPOSITORY", "cellnet")    # of a clone: source="local"
    network.predict(images)    # PIL images, or uint8 (N, 28, 28, 3); probabilities (N, classes)

    python hubconf.py exported/    # writes a folder as the Hugging Face hub expects it

The folder holds the weights (model.safetensors), their card (config.json), models.py, and the model
card with the hub's metadata (README.md). Nothing is uploaded.
"""

from __future__ import annotations

from bloodcells.cli.arguments import run_script
from bloodcells.cli.own_images import FRAMES
from bloodcells.cli.tools import parse_hub

if __name__ == "__main__":
    run_script(parse_hub, __file__)  # --help ends before torch loads; main parses again

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from bloodcells.data import preparation, user_images
from bloodcells.errors import UserError
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
    loaded = sys.modules.get("models")
    is_ours = getattr(loaded, "__file__", None) == str(FOLDER / "models.py")
    if not is_ours:
        sys.modules.pop("models", None)
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        if not is_ours:
            sys.modules.pop("models", None)
        if loaded is not None:
            sys.modules["models"] = loaded


with _own_modules():
    from bloodcells.inference.classifier import Released
    from bloodcells.inference.loading import load


class ReleasedNetwork(nn.Module):
    """A released network, with normalisation, calibration and test-time augmentation inside."""

    def __init__(self, model: Released):
        """`model` is what `load` returns."""
        super().__init__()
        self.classifier = model.classifier
        self.model, self.classes, self.size = model, tuple(model.classes), model.size

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, size, size, 3) to float32 probabilities (N, classes)."""
        probabilities: Tensor = self.classifier(images)[0]
        return probabilities

    def predict(self, images: Images, frame: str = "auto", foreign: bool = False) -> Tensor:
        """The probabilities of images, float32 (N, classes), on the CPU.

        `images` are a list of PIL images of any size, or an array, uint8 (N, size, size, 3). PIL
        images are turned upright and framed as by `predict.py --frame`. For an image that is not of
        the data set's kind, all classes count as equally frequent; those of an array are of that
        kind. With `foreign`, no image is. Raises `ValueError` for any other input or frame, and for
        an image in which no cell is found.
        """
        return torch.from_numpy(self.answers(images, frame, foreign)[0]).float()

    def unlike(self, images: Images, frame: str = "auto") -> Tensor:
        """Which images are unlike the training images, bool (N,): do not rely on their classes.

        The images, the frame and the errors are those of `predict`.
        """
        return torch.from_numpy(self.answers(images, frame, False)[1] > self.model.farthest)

    def answers(self, images: Images, frame: str, foreign: bool) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities, and the distances to the training images. As `predict`."""
        if frame not in FRAMES:
            raise ValueError(f"no frame {frame!r}: it is one of {', '.join(FRAMES)}")
        if isinstance(images, np.ndarray | Tensor):
            if images.dtype not in (np.uint8, torch.uint8):
                raise ValueError(f"images are {images.dtype}, not uint8")
            pixels = np.array(images.cpu() if isinstance(images, Tensor) else images)  # a copy
            kinds = np.full(pixels.shape[:1], foreign)
        else:
            pixels, kinds = self.prepared(images, frame)
            kinds |= foreign
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
                upright = user_images.to_rgb(_upright(image))
                one = preparation.prepare(upright, self.size, frame)
            except (preparation.BadImageError, OSError, SyntaxError) as error:  # Pillow's, lazily
                raise ValueError(f"image {number}: {error}") from error
            pixels[number] = one.pixels
            foreign.append(one.foreign)
        return pixels, np.array(foreign, bool)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say; as it is if these are damaged."""
    user_images.load(image)  # raises for damaged pixels, and for colours that Pillow misreads
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # of many kinds
        return image


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
        model = load(path, views, choose_device(device), "weights")
    except UserError as error:
        raise ValueError(str(error)) from error
    finally:  # both are the program's own
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
    return ReleasedNetwork(model)


def __dir__() -> list[str]:
    """What `torch.hub.list` shows: the entry points."""
    return ["cellnet", "dependencies"]


def main() -> None:
    """Write the folder that the command line names."""
    args = parse_hub(__file__)
    from bloodcells.reporting.hub_export import export_for_hub  # needs more packages

    export_for_hub(args.folder, RELEASED)
    print(f"wrote {args.folder}")


if __name__ == "__main__":
    run_script(main)
