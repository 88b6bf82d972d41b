"""The command line: flags, presets, recipes. Quick to import, so `--help` answers at once.

Imported by a script of the project, it also installs the handlers of signals and uncaught errors.
"""

import sys
from pathlib import Path

from bloodcells import ROOT
from bloodcells.cli.endings import end_in_one_line

# a script of the project ends in one line also if a signal arrives while it imports the rest
script = getattr(sys.modules["__main__"], "__file__", None)  # none in an interactive session
if script and Path(script).resolve().parent == ROOT:
    end_in_one_line()
