"""The command line: flags, presets, recipes. Quick to import, so `--help` answers at once."""

import sys
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli import signals

# a script of the project ends in one line also if a signal arrives while it imports the rest
if Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve().parent == ROOT:
    signals.end_in_one_line()
