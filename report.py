"""Write the tables of the README and the model card, and a page of all runs, from plots/.

    python report.py            # prints the tables, rewrites the marked blocks of README.md and
                                # MODEL_CARD.md, draws plots/ladder.png, writes plots/report.html
    python report.py --check    # changes nothing; exit code 2 if a block is old

Every figure is read from the JSON files and predictions.npz of finished runs.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from bloodcells.cli.arguments import ROOT, Parser, UserError, run_script


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plots", type=Path, default=ROOT / "plots", metavar="DIR", help="folder of run folders"
    )
    for flag in ("readme", "card"):
        parser.add_argument(
            f"--{flag}", type=Path, default=ROOT / DOCUMENTS[flag], metavar="FILE",
            help="file to rewrite",
        )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    args = parser.parse_args()

    from bloodcells.reporting import page
    from bloodcells.reporting.tables import paper, studies
    from bloodcells.reporting.tables import release as release_tables
    from bloodcells.reporting.tables import search as search_table
    from bloodcells.tracking import run_folder

    blocks = {
        "readme": {
            "paper": paper.paper_table,
            "ladder": studies.ladder,
            "ablation": studies.ablation,
            "trust": release_tables.trust,
            "search": search_table.search,
        },
        "card": {"results": release_tables.results, "robustness": release_tables.robustness},
    }
    if not args.check:  # shows what there is, even if a table below lacks a run
        with suppress(UserError):  # the table of the same name says why below
            draw_ladder(args.plots)
        page = args.plots / "report.html"
        for line in page.write(args.plots, blocks["readme"] | blocks["card"], page):
            print(f"left out of {page}: {' '.join(line.split())}")
    documents = {flag: getattr(args, flag) for flag in DOCUMENTS}
    before = {flag: read_document(path, f"--{flag}") for flag, path in documents.items()}
    after = {
        flag: renewed(text, blocks[flag], args.plots, f"--{flag} {documents[flag]}")
        for flag, text in before.items()
    }
    for flag, path in documents.items():
        if args.check and after[flag] != before[flag]:
            raise UserError(f"{path} is out of date: run python report.py")
        if after[flag] != before[flag]:
            run_folder.write_whole(path, after[flag].encode())
            print(f"wrote the tables into {path}")


DOCUMENTS = {"readme": "README.md", "card": "MODEL_CARD.md"}


def draw_ladder(plots: Path) -> None:
    """Write ladder.png. Raises `UserError` if a run is missing or unfit."""
    from bloodcells.reporting.figures import studies as study_figures
    from bloodcells.reporting.tables import studies
    from bloodcells.tracking import run_folder

    points = studies.ladder_points(plots)
    run_folder.write(
        plots,
        lambda folder: study_figures.ladder(folder / "ladder.png", points),
        last="ladder.png",
    )


def renewed(text: str, blocks: dict, plots: Path, where: str) -> str:
    """A document with its blocks made anew. Raises `UserError` if one cannot be made or placed."""
    for name, make in blocks.items():
        try:
            block = make(plots)
        except KeyError as error:
            raise UserError(
                f"{plots}: a run of the {name} table lacks {error}; make it again"
            ) from error
        print(f"{block}\n")
        text = replace_block(text, name, block, where)
    return text


def read_document(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag} {path}: cannot be read: {error}") from error


def replace_block(text: str, name: str, block: str, where: str) -> str:
    """`text` with what stands between the markers of that name replaced by `block`."""
    begin, end = f"<!-- {name}: written by report.py -->", f"<!-- end of {name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise UserError(f"{where}: the lines '{begin}' and '{end}' are missing")
    return f"{head}{begin}\n{block}\n{end}{tail}"


if __name__ == "__main__":
    run_script(main)
