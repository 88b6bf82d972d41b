"""A page in the browser on which to drop images of blood cells.

    python demo.py                             # then open http://127.0.0.1:7860
    python demo.py --views 8 --port 8080       # more accurate, eight times as slow
    python demo.py --host 0.0.0.0              # for the whole network; there is no password

For each image it shows the part that the network saw, the class with its probability and the
prediction set at 95 %, and where in the image the class was found; of many images also the count of
each class. Images are deleted once they are classified; the table for download is in the page. It
writes no files. Not for clinical use. Needs Gradio: pip install -r requirements-demo.txt
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.own_images import parse_demo

if __name__ == "__main__":
    run_script(parse_demo, __file__)  # --help ends before torch loads; main parses again

import base64
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jinja2 import Environment

from bloodcells import ROOT
from bloodcells.data import user_images
from bloodcells.data.image_files import ARRAYS, SUFFIXES
from bloodcells.data.user_images import MOST_PIXELS, UserImage
from bloodcells.errors import UserError
from bloodcells.evaluation.class_activation import class_maps
from bloodcells.evaluation.differential import differential
from bloodcells.inference.classification import classify, frame_of
from bloodcells.inference.classifier import Released
from bloodcells.inference.fine_tuning import holds_for
from bloodcells.inference.loading import load
from bloodcells.inference.output import Prediction, as_csv, in_base64
from bloodcells.training.device import choose_device

MOST_IMAGES = 200  # at once
MOST_BYTES = 4 * MOST_PIXELS  # of one file; with a bigger one, Gradio takes none of a drop
UPLOAD_SECONDS = 60.0  # after which an empty file is not one that is being received
BATCH_SIZE = 128
SET_LEVEL = "0.95"  # of the prediction sets
FEWEST_COUNTED = 10  # images; fewer make no differential count
EXAMPLES = ROOT / "docs" / "examples"
EVERYWHERE = "0.0.0.0"
TEMPLATE = ROOT / "bloodcells" / "inference" / "demo.html.j2"
TITLE = "Blood cell classification"
FRAMING = (
    "If an image has none of the sizes of the data set or MedMNIST, the cell is found and cut "
    "out, so that it loses its size: expect some erythroblasts and immature granulocytes to be "
    "misread."
)
OTHER_FRAMING = "Images are framed as those that the weights were fitted to (--frame {})."
FETCHING = (  # what in Gradio fetches an address, by module
    ("processing_utils", "async_ssrf_protected_download"),
    ("routes", "secure_url_stream_response"),
)


def main() -> None:
    """Load the network and serve the page until Ctrl-C."""
    args = parse_demo(__file__)
    refuse_address(args.host, args.port)
    gradio = load_gradio(args.host)
    model = load(args.weights, args.views, choose_device(args.device, args.threads))
    refuse_downloads(gradio)
    with tempfile.TemporaryDirectory() as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # removed at the end, whatever happens
        fitted = holds_for(args.weights)
        page = make_page(gradio, model, Path(uploads), frame_of(args.weights), fitted)
        page.launch(
            server_name=args.host,
            server_port=args.port,
            max_file_size=MOST_BYTES,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            share=False,  # whatever the environment says
            theme=gradio.themes.Default(font=["system-ui"], font_mono=["monospace"]),  # no download
        )
        shown = "localhost" if args.host == EVERYWHERE else args.host
        print(f"open http://{shown}:{args.port} in a browser; Ctrl-C ends", flush=True)
        try:
            while True:
                time.sleep(3600)  # which Ctrl-C also ends on Windows
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped") from stop
        finally:
            page.close()


def load_gradio(host: str) -> ModuleType:
    """The package Gradio, without its reports to its makers. Raises `UserError`.

    Nor does it keep in the browser what was classified, for others who use it.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ.pop("GRADIO_NUM_WORKERS", None)  # whose processes would not refuse downloads
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own page whether it is there
        others = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*others, "127.0.0.1", "localhost", host])
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            "Gradio is not installed; run: pip install -r requirements-demo.txt"
        ) from error
    return gradio


def refuse_downloads(gradio: ModuleType) -> None:
    """Let the page fetch nothing that a request names: it takes uploads only.

    Raises `UserError` for a Gradio that does not have the functions which would.
    """
    from fastapi import HTTPException  # which Gradio needs

    async def refuse(*_: object, **__: object) -> None:
        raise HTTPException(403, "addresses are not fetched")

    for module, name in FETCHING:
        where = getattr(gradio, module, None)
        if not hasattr(where, name):
            raise UserError(
                f"Gradio {gradio.__version__} is another one than this page was made for; run: "
                "pip install -r requirements-demo.txt"
            )
        setattr(where, name, refuse)


def refuse_address(host: str, port: int) -> None:
    """Raise `UserError` if nothing can be served there."""
    try:
        for address in (host, "127.0.0.1"):  # Gradio asks for the second one, too
            with socket.socket() as one:
                if os.name == "posix":  # on Windows it allows a port that is in use
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((address, port))
    except (OSError, TypeError, ValueError) as error:  # the last two: no name of a host
        raise UserError(
            f"--host {host} --port {port}: {getattr(error, 'strerror', None) or error}; pass "
            "another --port, or an IPv4 address of this machine"
        ) from error


def make_page(gradio: Any, model: Released, uploads: Path, frame: str, fitted: str | None) -> Any:
    """The page: images in, which Gradio puts into the folder `uploads`, answers out."""
    gradio.set_static_paths([EXAMPLES])  # otherwise examples would be deleted, as uploads are
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(300, 300)) as page:
        gradio.Markdown(
            f"# {TITLE}\nDrop images of single stained blood cells, at most {MOST_IMAGES} at once. "
            f"{FRAMING if frame == 'auto' else OTHER_FRAMING.format(frame)} **Not for clinical "
            "use.**"
        )
        files = gradio.File(
            label="Images",
            file_count="multiple",
            file_types=[suffix for suffix in SUFFIXES if suffix not in ARRAYS],
        )
        examples = sorted(EXAMPLES.glob("*.png"))
        gradio.Examples([[[str(path)]] for path in examples], files, label="Examples")
        answers = gradio.HTML()

        def reply(names: list[str] | None) -> Any:
            """The answers, and None to empty the field, which calls this again, for nothing."""
            if not names:
                return gradio.skip()
            return answer(names, model, uploads, frame, fitted), None

        files.change(reply, files, [answers, files], show_progress="minimal")
    return page


def answer(
    names: Sequence[str],
    model: Released,
    uploads: Path,
    frame: str = "auto",
    fitted: str | None = None,
) -> str:
    """What the page says of some image files, as HTML; deletes those in the folder `uploads`.

    `fitted` says what the calibration of fitted weights holds for.
    """
    chosen = [str(name) for name in names[:MOST_IMAGES]]
    try:
        images = [renamed(image) for image in user_images.read(chosen, model.size, frame)]
    finally:
        delete(names, uploads)
    usable = [image for image in images if image.problem is None]
    found = list(classify(usable, model, {}, BATCH_SIZE, SET_LEVEL, abstain_below=0.0))
    page = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    counts = Counter(one.label for one in found)
    return page.render(
        predictions=list(zip(found, maps(model, found), strict=True)),
        fitted=fitted,
        problems=[image for image in images if image.problem],
        notes=[image for image in images if image.note],
        too_many=len(names) - len(chosen),
        counts=differential(counts, model.classes) if len(found) >= FEWEST_COUNTED else [],
        table=base64.b64encode("\r\n".join(as_csv(found)).encode()).decode() if found else None,
    )


def delete(names: Sequence[str], uploads: Path) -> None:
    """Delete those of the files that are in the folder `uploads`, and what Gradio makes for each.

    That is a folder for each, and an empty file, which a later call deletes.
    """
    for path in map(Path, names):
        own = path.resolve().parent
        if uploads.resolve() in (own, *own.parents):
            path.unlink(missing_ok=True)
            if own != uploads.resolve():
                with suppress(OSError):  # it may hold another upload
                    own.rmdir()
    for path in uploads.glob("tmp*"):
        with suppress(OSError):  # another request may have been faster
            found = path.stat()
            if not found.st_size and time.time() - found.st_mtime > UPLOAD_SECONDS:
                path.unlink()


def renamed(image: UserImage) -> UserImage:
    """The image named by its file alone, without the folder of uploads, with all notes on it."""
    twice = "gone: dropped twice at the same time; drop it again"
    problem = twice if image.problem == user_images.GONE else image.problem
    size = "has a size of the data set's photographs or MedMNIST's, so it was not framed"
    note = "; ".join(filter(None, (size if image.by_size else None, image.note)))
    return replace(image, name=Path(image.name).name, problem=problem, note=note or None)


def maps(model: Released, predictions: Sequence[Prediction]) -> list[str]:
    """Each image with the places that speak for its class marked, as PNGs in base64."""
    if not predictions:
        return []
    pixels = np.stack([one.pixels for one in predictions])
    labels = [model.columns[model.classes.index(one.label)] for one in predictions]
    device = model.classifier.means.device
    found = class_maps(
        model.classifier.network,
        torch.from_numpy(pixels).to(device),
        torch.tensor(labels, device=device),
    )
    support = torch.nn.functional.interpolate(
        found[:, None].clamp_min(0), pixels.shape[1], mode="bilinear"
    )
    support = support / support.amax((2, 3), keepdim=True).clamp_min(1e-9)
    alpha = 0.7 * support.permute(0, 2, 3, 1).cpu().numpy()
    marked = pixels * (1 - alpha) + np.array([255, 140, 0]) * alpha
    return [in_base64(one) for one in marked.astype(np.uint8)]


if __name__ == "__main__":
    run_script(main)
