"""The comparison and scaling scripts are no installed package: they come from the checkout."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
