"""Self-contained HTML pages.

They fetch nothing: images are embedded, and a content security policy forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from bloodcells.tracking import run_folder

TEMPLATES = Path(__file__).parent
PNG = b"\x89PNG\r\n\x1a\n"  # how every PNG file begins


def write(path: Path, template: str, **parts: object) -> None:
    """Fill a template, and write the page. Raises `UserError` if it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True
    )
    environment.filters["inline"] = inline
    base = (TEMPLATES / "base.html.j2").read_text(encoding="utf-8")
    page = environment.get_template(template).render(script_hash=script_hash(base), **parts)
    # a name may hold half a surrogate pair, which cannot be encoded
    run_folder.write_whole(path, page.encode(errors="xmlcharrefreplace"))


def script_hash(page: str) -> str:
    """The hash with which the page's content security policy allows its script."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def inline(text: str) -> Markup:
    """Text as HTML, with `code` where it has backticks."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def figures(folder: Path, split: str, of: str | None = None) -> list[dict]:
    """The folder's figures, to be embedded in the page, which may be passed on to others.

    They are said to be `of` the folder, or of what is named.

    Links are left out, as they may lead to any file, and so is what is no PNG.
    """
    shown = []
    for path in sorted(folder.glob("*.png")):
        if path.is_symlink() or not path.is_file():
            continue
        if not (content := path.read_bytes()).startswith(PNG):
            continue
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        made_on = "training and held-out images" if path.stem == "learning_curves" else split
        shown.append(
            {
                "data": base64.b64encode(content).decode(),
                "width": width,
                "height": height,
                "of": folder.name if of is None else of,
                "words": f"{path.stem.replace('_', ' ')}; data: {made_on}",
            }
        )
    return shown
