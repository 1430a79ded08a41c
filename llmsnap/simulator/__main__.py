"""``python -m llmsnap.simulator``."""

import sys

from llmsnap.simulator.server import main

if __name__ == "__main__":
    sys.exit(main())
