"""What the scripts share, in layers named by the field's terms, which import downwards only.

From the bottom: `errors`, `tracking`, `cli`, `data`, `training`, `inference`, `evaluation`,
`search`, `reporting`, `benchmarks`; the scripts stand above all of them, `models.py` below.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the project
