"""``llmsnap logs``: the log of a running server, or of one of its models."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO
from urllib.parse import quote

from llmsnap.ansi import AnsiFilter
from llmsnap.commands.client import ServerClient, add_server, connect, new_parser
from llmsnap.errors import CommandFailed, KeyRefused, NoServer

DESCRIPTION = "The log of a running server, or of one of its models."
OWN_LOGS = ("proxy", "upstream")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("logs", DESCRIPTION, "[NAME]")
    add = parser.add_argument
    about = "a model; or proxy: llmsnap's own; upstream: all models' (default: both)"
    add("name", nargs="?", default="", metavar="NAME", help=about)
    add("-f", "--follow", action="store_true", help="follow new output until Ctrl-C")
    add("-n", "--lines", type=int, metavar="N", help="start with the last N lines")
    return add_server(parser)


def main(
    argv: Sequence[str], out: BinaryIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.lines is not None and args.lines < 0:
        parser.error("--lines must be 0 or more")
    client, out = connect(args, environ), out or sys.stdout.buffer
    with client.send("GET", _path(client, args.name, follow=args.follow)) as answer:
        pieces: Iterator[bytes] = answer.iter_content(None)
        pieces = _last_lines(pieces, args.lines, follow=args.follow)
        if out.isatty():
            _show(pieces, out)
            return 0
        for piece in pieces:
            out.write(piece)
            out.flush()
    return 0


def _show(pieces: Iterator[bytes], out: BinaryIO) -> None:
    """Write *pieces* to a terminal, without escape sequences that a model may print."""
    colours = AnsiFilter()
    try:
        for piece in pieces:
            out.write(colours.feed(piece))
            out.flush()
    finally:
        with suppress(OSError):
            out.write(colours.end())
            out.flush()


def _path(client: ServerClient, name: str, *, follow: bool) -> str:
    """Return the path of the log. Raises: NoSuchModel."""
    if name and name not in OWN_LOGS:
        _check(client, name)
    return f"/logs/stream/{quote(name, safe='')}" + ("" if follow else "?no-follow")


def _check(client: ServerClient, name: str) -> None:
    try:
        client.get(f"/v1/models/{quote(name, safe='')}")
    except (NoServer, KeyRefused):
        raise
    except CommandFailed as error:
        kinds = " or ".join(OWN_LOGS)
        raise type(error)(f"{error} (or {kinds}, for a log that is no model's)") from error


def _last_lines(pieces: Iterator[bytes], count: int | None, *, follow: bool) -> Iterator[bytes]:
    """Yield *pieces*, with the history cut to its last *count* lines."""
    if count is None:
        yield from pieces
        return
    there = next(pieces, b"") if follow else b"".join(pieces)
    yield b"".join(there.splitlines(keepends=True)[-count:] if count else [])
    yield from pieces
