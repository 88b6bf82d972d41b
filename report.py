"""Write the tables of the documents, and the report page, from the results in plots/.

    python report.py            # rewrites the marked tables of README.md, MODEL_CARD.md and docs/,
                                # prints those of README.md, draws plots/ladder.png and
                                # errors_by_stage.png, writes plots/report.html and code.json
    python report.py --check    # changes nothing; exit code 2 if a table or list is out of date
    python report.py --compare plots/cnn-paper plots/mine    # side by side, here and as
                                                             # plots/comparison.html
    python report.py --draw plots/mine --figure-format pdf   # redraws the figures, for a paper

All numbers come from the JSON files and predictions.npz of finished experiments. Results of edited
code are shown only by --compare.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.tools import parse_report

if __name__ == "__main__":
    run_script(parse_report, __file__)  # --help ends before matplotlib loads; main parses again

import functools
import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bloodcells import ROOT
from bloodcells.cli.endings import MENDABLE, place_of, printable
from bloodcells.cli.presets import PRESETS
from bloodcells.errors import UserError
from bloodcells.reporting.comparison import refuse_equal_names, write_comparison
from bloodcells.reporting.figures import studies as figures
from bloodcells.reporting.page import UNFIT, Block, reason, write_page
from bloodcells.reporting.redraw import redraw
from bloodcells.reporting.tables import batch_effect, elsewhere, release, search, stages, studies
from bloodcells.reporting.tables.compare import compare_runs
from bloodcells.reporting.tables.headline import headline
from bloodcells.reporting.tables.paper import paper_details, paper_table
from bloodcells.reporting.tables.speed import speed
from bloodcells.tracking import provenance, run_folder
from bloodcells.tracking.atomic import write_whole
from bloodcells.tracking.files import regular

# For each document, by the name of its markers: what writes the block between them.
BLOCKS: dict[str, dict[str, Block]] = {
    "README.md": {"paper": paper_table, "headline": headline},
    "MODEL_CARD.md": {"results": release.results, "robustness": release.robustness},
    "docs/accuracy.md": {
        "paper-details": paper_details,
        "ladder": studies.ladder,
        "ablation": studies.ablation,
        "errors": stages.errors,
        "stages": stages.stages,
    },
    "docs/other-laboratories.md": {
        "elsewhere": elsewhere.elsewhere,
        "batch-effect": batch_effect.batch_effect,
        "ablation-robust": elsewhere.ablation,
        "finetune": elsewhere.fine_tuned,
    },
    "docs/search.md": {"search": search.search},
    "docs/speed.md": {"speed": speed},
    "docs/use.md": {"trust": release.trust},
}

# The figures across experiments: what reads their rows, and what draws them.
ACROSS: dict[str, tuple[Callable[[Path], Any], Callable[[Path, Any], None]]] = {
    "ladder.png": (studies.ladder_points, figures.ladder),
    "errors_by_stage.png": (stages.stage_errors, figures.stage_errors),
}


def main() -> None:
    """Write the documents' tables, or compare or redraw experiments."""
    args = parse_report(__file__)
    if args.compare:
        compare(args)
        return
    if args.draw:
        for path in args.draw:
            with damage_reported(f"--draw {path}"):
                redraw(run_folder.find(path), args.figure_format, args.data_root)
        return
    blocks = {  # each is made once, for the page and for its document
        document: {name: functools.cache(make) for name, make in parts.items()}
        for document, parts in BLOCKS.items()
    }
    if not args.check:
        write_overview(args.plots, blocks)
    write_code_list(args.plots / provenance.LIST, args.check)
    write_documents(args, blocks)


def write_overview(plots: Path, blocks: Mapping[str, Mapping[str, Block]]) -> None:
    """Draw the figures across experiments, and write the page, of what results there are."""
    undrawn = {name: why for name, parts in ACROSS.items() if (why := draw(plots / name, *parts))}
    page = plots / "report.html"
    every = {name: make for parts in blocks.values() for name, make in parts.items()}
    for line in write_page(plots, every, undrawn, page):
        print(f"left out of {page}: {printable(' '.join(line.split()))}")


def write_documents(args: Namespace, blocks: Mapping[str, Mapping[str, Block]]) -> None:
    """Renew the tables of all documents, and print those of README.md.

    With --check, nothing is written; raises `UserError` if a document is out of date.
    """
    documents = {args.root / name: parts for name, parts in blocks.items()}
    before = {path: read_document(path) for path in documents}
    after = {
        path: renewed(before[path], parts, args.plots, path) for path, parts in documents.items()
    }
    changed = [path for path in documents if after[path] != before[path]]
    if args.check:
        if changed:
            raise UserError(f"{changed[0]} is out of date: run python report.py")
        return
    shown = (make(args.plots) for make in blocks["README.md"].values())
    print(*shown, sep="\n\n", end="\n\n")
    for path in changed:
        if read_document(path) != before[path]:
            raise UserError(f"{path} was edited meanwhile: run python report.py again")
        write_whole(path, after[path].encode())
        print(f"wrote the tables into {path}")


@contextmanager
def damage_reported(what: str) -> Iterator[None]:
    """Within the block, results that are not as their scripts write them are a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.filename is None or error.errno in MENDABLE:
            raise  # of what is written, not of a result
        raise UserError(f"{what}: a result is damaged, make it anew: {error}") from error
    except UNFIT as error:  # or the code that shows it is wrong
        raise UserError(
            f"{what}: a result is damaged, make it anew: {reason(error)}. If the files are sound, "
            f"the code that shows them is wrong{place_of(error)}"
        ) from error


def compare(args: Namespace) -> None:
    """Print experiments side by side, and write them as a page."""
    runs = [run_folder.read(run_folder.find(path)) for path in args.compare]
    page = args.plots / "comparison.html"
    with damage_reported("--compare"):
        refuse_equal_names(runs)
        print(printable(compare_runs(runs), kept="\n"))
        missing = write_comparison(runs, page, args.data_root)
    if missing:
        print(f"{page} has no picture of the images: {missing}")
    print(f"wrote {page}")


def write_code_list(path: Path, check: bool) -> None:
    """Write the hashes of the committed code and presets, for downloads without git.

    With `check`, nothing is written; raises `UserError` if the list is out of date.
    """
    scripts = sorted(script.name for script in ROOT.glob("*.py"))
    presets = sorted(f".config/{preset.name}" for preset in PRESETS.glob("*.toml"))
    content: dict[str, Any] = {name: provenance.committed_code(name) for name in scripts}
    content |= {path: provenance.committed_preset(path) for path in presets}
    content = {name: code for name, code in content.items() if code}
    text = json.dumps(content, indent=1) + "\n"
    with suppress(OSError, ValueError):  # what cannot be read is out of date
        if regular(path).read_text(encoding="utf-8") == text:
            return
    if check:
        raise UserError(f"{path} is out of date: run python report.py")
    write_whole(path, text.encode())


def draw(
    path: Path, rows_of: Callable[[Path], Any], figure: Callable[[Path, Any], None]
) -> str | None:
    """Draw a figure across the experiments of its folder; returns None, or why it was left out.

    Raises `UserError` if it cannot be written.
    """
    plots, name = path.parent, path.name
    try:
        rows = rows_of(plots)
    except UNFIT as error:
        return reason(error)
    with damage_reported(f"{plots}: {name}"):
        run_folder.write(plots, lambda folder: figure(folder / name, rows), last=name)
    return None


def renewed(text: str, blocks: Mapping[str, Block], plots: Path, document: Path) -> str:
    """A document's text with its blocks regenerated. Raises `UserError` if that fails."""
    for name, make in blocks.items():
        with damage_reported(f"{plots}: the {name} table"):
            block = make(plots)
        text = replace_block(text, name, block, document)
    return text


def read_document(path: Path) -> str:
    """A document's text. Raises `UserError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}; pass its folder as --root") from error


def replace_block(text: str, name: str, block: str, document: Path) -> str:
    """`text` with `block` between the markers of that name. Raises `UserError` without them."""
    begin, end = f"<!-- {name}: written by report.py -->", f"<!-- end of {name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise UserError(f"{document}: the lines '{begin}' and '{end}' are missing")
    return f"{head}{begin}\n{block}\n{end}{tail}"


if __name__ == "__main__":
    run_script(main)
