"""The scripts, each with its first line: python -m bloodcells"""

from __future__ import annotations

import ast

from bloodcells import ROOT
from bloodcells.cli.arguments import run_script


def main() -> None:
    """Print the name of each script and the first line of its docstring."""
    for path in sorted(ROOT.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "__main__" in text:
            line = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
            print(f"{path.name:27} {line}")
    print("\nFor the flags of a script, with examples: python SCRIPT --help")


if __name__ == "__main__":
    run_script(main)
