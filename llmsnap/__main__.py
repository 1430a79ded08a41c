"""The door for ``llmsnap`` and ``python -m llmsnap``."""

import llmsnap._monkey

import sys

from llmsnap import cli


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
