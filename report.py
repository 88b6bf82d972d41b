"""Write the README's tables from the run folders under plots/.

    python report.py            # prints the tables, rewrites the README's marked blocks, draws
                                # plots/ladder.png
    python report.py --check    # changes nothing; exit code 2 if a block is old

Every figure is read from the JSON files and predictions.npz of finished runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import ROOT, Parser, UserError, run_script


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plots", type=Path, default=ROOT / "plots", metavar="DIR", help="folder of run folders"
    )
    parser.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", metavar="FILE", help="file to rewrite"
    )
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    args = parser.parse_args()

    import run_folder
    import search_table
    import study_figures
    import study_tables
    import tables

    before = after = read_readme(args.readme)
    for name, table in (
        ("paper", tables.paper_table),
        ("ladder", study_tables.ladder),
        ("ablation", study_tables.ablation),
        ("trust", study_tables.trust),
        ("search", search_table.search),
    ):
        try:
            block = table(args.plots)
        except KeyError as error:
            raise UserError(
                f"{args.plots}: a run of the {name} table lacks {error}; make it again"
            ) from error
        print(f"{block}\n")
        after = replace_block(after, name, block, args.readme)
    if args.check and after != before:
        raise UserError(f"{args.readme} is out of date: run python report.py")
    if args.check:
        return
    run_folder.write(
        args.plots,
        lambda folder: study_figures.ladder(
            folder / "ladder.png", study_tables.ladder_points(args.plots)
        ),
        last="ladder.png",
    )
    if after != before:
        write_readme(args.readme, after)
        print(f"wrote the tables into {args.readme}")


def read_readme(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--readme {path}: cannot be read: {error}") from error


def write_readme(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UserError(f"--readme {path}: cannot be written: {error}") from error


def replace_block(text: str, name: str, block: str, path: Path) -> str:
    """`text` with what stands between the markers of that name replaced by `block`."""
    begin, end = f"<!-- {name}: written by report.py -->", f"<!-- end of {name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise UserError(f"--readme {path}: the lines '{begin}' and '{end}' are missing")
    return f"{head}{begin}\n{block}\n{end}{tail}"


if __name__ == "__main__":
    run_script(main)
