"""The scripts of `pretraining/` are imported by their names, as they import each other."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "pretraining"))
