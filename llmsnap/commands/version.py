"""``llmsnap version``: which version this is, and of which commit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from llmsnap.installation import identify


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    about = "Print version and commit, as llmsnap --version does."
    parser = argparse.ArgumentParser(prog="llmsnap version", description=about)
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    build = identify()
    sys.stdout.write((json.dumps(asdict(build)) if args.json else str(build)) + "\n")
    return 0
