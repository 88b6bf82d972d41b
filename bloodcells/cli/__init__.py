"""The command line: flags, presets, recipes. Quick to import, so `--help` answers at once."""

import sys
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli import signals

# a script of the project ends in one line also if a signal arrives while it imports the rest
script = getattr(sys.modules["__main__"], "__file__", None)  # none in an interactive session
if script and Path(script).resolve().parent == ROOT:
    signals.end_in_one_line()
