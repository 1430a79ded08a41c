"""``llmsnap sleep``: put a model of a running server to sleep."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from llmsnap.commands.connection import add_server, connect, new_parser
from llmsnap.commands.models import listed

DESCRIPTION = "Put a model of a running server to sleep; returns when it sleeps or is stopped."


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("sleep", DESCRIPTION, "MODEL")
    add = parser.add_argument
    add("model", metavar="MODEL", help="id or alias; its sleepMode must be enabled")
    add("--now", action="store_true", help="cut requests in flight, instead of letting them end")
    return add_server(parser)


def main(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    client = connect(args, environ)
    client.act("sleep", args.model, "?drain=0" if args.now else "")
    models, _ = listed(client)
    state = next((one.state for one in models if one.is_called(args.model)), "stopped")
    (out or sys.stdout).write(f"{args.model}: {state}\n")
    return 0
