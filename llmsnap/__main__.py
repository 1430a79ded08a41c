"""The door for ``llmsnap`` and ``python -m llmsnap``."""

import sys

from llmsnap.commands.catalog import is_light

if not is_light(sys.argv[1:]):  # those need no event loop, and start in a fifth of the time
    import llmsnap._monkey

from llmsnap import cli


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
