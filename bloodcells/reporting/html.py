"""Self-contained HTML pages.

They fetch nothing: images are embedded, and a content security policy forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from bloodcells.tracking.atomic import write_whole

TEMPLATES = Path(__file__).parent
PNG = b"\x89PNG\r\n\x1a\n"  # how every PNG file begins
SHOWS = {  # what a figure shows, by the beginning of its name, or of its folder's and its own
    "ablation": "percentage points that each change to the recipe gains, a dot per fold",
    "accuracy": "accuracy by severity, one panel per corruption",
    "architecture/": "layer by layer: shapes, parameters, operations",
    "activation_maps": "an image of each class, its activation map, and that of shuffled weights",
    "batch_examples": "images of each class, of the first and of the second batch",
    "batch_recall": "recall by class of two batches, the second left out of training, or not",
    "class_examples": "images of each class, a row per class",
    "class_recall": "recall by class, with 95 % intervals",
    "confident_mistakes": "the wrongly classified images of which the models were surest",
    "confusion_matrix": "how many images of each true class were given each class",
    "domains": "images of each class, a row per laboratory or corruption, with the accuracy there",
    "duplicates": "pairs of images that are equal or nearly so",
    "errors": "wrongly classified images, each beside the training images most like it",
    "errors_by_stage": "error rate of each stage of maturation, and its share of all errors",
    "examples": "an image, clean and at each severity, a row per corruption",
    "growth": "how the time of the work grows with its size",
    "heat_maps": "held-out accuracy by batch size and learning rate",
    "history": "the score of each trial, and the best so far",
    "label_curve": "balanced accuracy against the labelled images that a last layer is fitted to",
    "label_distribution": "number of training images by class",
    "ladder": "test error against parameters and against training time, ours and published",
    "learning_curves": "loss and accuracy by epoch",
    **dict.fromkeys(
        ("tuning/learning_curves", "tuning-best/learning_curves"),
        "loss by epoch, of the best and the worst trial",
    ),
    "mean_images": "the mean training image of each class",
    "montage": "training images side by side",
    "network_speed": "share of the processor's peak speed by network, and images per second",
    "operators": "milliseconds of a training step by operator, and at the speed of matrix products",
    "reliability": "accuracy against confidence, before and after temperature scaling",
    "risk_coverage": "error among the images kept, by the share that is kept",
    "sets": "how often prediction sets hold the true class, and how many classes they hold",
    "split_distribution": "share of each class in the three splits",
    "stage_distribution": "share of each stage of maturation in the three splits",
    "stage_examples": "images of each stage of maturation, a row per stage",
    "suspect_labels": "the images whose labels are least probable",
    "test_images_that_differ": "test images that only one of two experiments classifies correctly",
    "unlike": "distance from the training images, of cells and of other images",
}
TRAINING = "training images"
MADE_ON = {  # what some are of, whatever the others of their folder are of
    **dict.fromkeys(("batch_examples", "class_examples", "label_distribution"), TRAINING),
    **dict.fromkeys(("mean_images", "montage", "stage_examples"), TRAINING),
    **dict.fromkeys(("activation_maps", "errors_by_stage"), "test split"),
    "domains": "test split, clean and corrupted, and another laboratory's images, if any",
    "errors": "test split, with training images",
    "learning_curves": "training and held-out images",
    "risk_coverage": "test split, and another laboratory's images, if any",
    "suspect_labels": "held-out images of train + validation",
    "unlike": "test split, made-up images, and photographs",
}


def write(path: Path, template: str, **parts: object) -> None:
    """Fill a template, and write the page. Raises `UserError` if it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True
    )
    environment.filters["inline"] = inline
    base = (TEMPLATES / "base.html.j2").read_text(encoding="utf-8")
    page = environment.get_template(template).render(script_hash=script_hash(base), **parts)
    # a name may hold half a surrogate pair, which cannot be encoded
    write_whole(path, page.encode(errors="xmlcharrefreplace"))


def script_hash(page: str) -> str:
    """The hash with which the page's content security policy allows its script."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def inline(text: str) -> Markup:
    """Markdown as HTML: `code` where it has backticks, *emphasis*, **more**, a link's words."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", str(escape(text)))
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*<>]+)\*\*", r"<strong>\1</strong>", text)
    return Markup(re.sub(r"(?<!\*)\*([^*<>]+)\*(?!\*)", r"<em>\1</em>", text))


def figures(
    folder: Path, images: str, of: str | None = None, told: Mapping[str, str] | None = None
) -> list[dict]:
    """The folder's PNG figures, for a page that may be passed on to others.

    So links are left out: they may lead to any file. `images`: which ones the figures are made on,
    in words, but for those of `MADE_ON`. `of`: what they belong to (default: the folder's name).
    `told`: what some of them show, by their names, instead of `SHOWS`.
    """
    shown = []
    for path in sorted(folder.glob("*.png")):
        if path.is_symlink() or not path.is_file():
            continue
        if not (content := path.read_bytes()).startswith(PNG):
            continue
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        made_on = longest(MADE_ON, path) or images
        words = (told or {}).get(path.stem) or caption(path)
        shown.append(
            {
                "file": path.name,
                "data": base64.b64encode(content).decode(),
                "width": width,
                "height": height,
                "of": folder.name if of is None else of,
                "words": f"{words}; data: {made_on}",
            }
        )
    return shown


def caption(path: Path) -> str:
    """A figure's caption, from the name of its file."""
    words, shows = path.stem.replace("_", " "), longest(SHOWS, path)
    return f"{words}: {shows}" if shows else words


def longest(texts: Mapping[str, str], path: Path) -> str | None:
    """The text whose key is the longest beginning of a file's name, or of its folder's and its own.

    None if no key is.
    """
    names = path.stem, f"{path.parent.name}/{path.stem}"
    known = [start for start in texts if any(name.startswith(start) for name in names)]
    return texts[max(known, key=len)] if known else None
