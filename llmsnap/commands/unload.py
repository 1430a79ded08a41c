"""``llmsnap unload``: stop a model of a running server, or all of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from llmsnap.commands.connection import add_server, connect, new_parser

DESCRIPTION = "Stop a model of a running server; returns when it is gone."


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("unload", DESCRIPTION, "MODEL|--all")
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="id or alias")
    add("-a", "--all", action="store_true", help="stop all models")
    add("--drain", action="store_true", help="let requests in flight end, instead of cutting them")
    return add_server(parser)


def main(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.model) == args.all:
        parser.error("name one model, or --all")
    client = connect(args, environ)
    query = "?drain=1" if args.drain else ""
    if args.all:
        with client.send("POST", f"/api/models/unload{query}"):
            pass
    else:
        client.act("unload", args.model, query)
    (out or sys.stdout).write(f"{args.model or 'all models'}: stopped\n")
    return 0
