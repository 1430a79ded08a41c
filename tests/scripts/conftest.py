"""The scripts are no package: they run before anything is installed, from their own folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
