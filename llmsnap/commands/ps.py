"""``llmsnap ps``: the models of a running server, and what they are doing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TextIO

from llmsnap.commands.connection import add_server, connect, new_parser
from llmsnap.commands.models import Model, listed
from llmsnap.commands.terminal import Terminal, duration

DESCRIPTION = "The models of a running server that are not stopped, or that somebody waits for."
HEAD = ("MODEL", "STATE", "SINCE", "TTL", "IN FLIGHT", "QUEUE")
JSON_FIELDS = ("model", "state", "for_s", "ttl_s", "idle_in_s", "in_flight", "waiting")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("ps", DESCRIPTION)
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="stopped models too")
    add("-q", "--quiet", action="store_true", help="names only")
    add("--json", action="store_true", help="write JSON; durations in seconds")
    return add_server(parser)


def main(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    out = out or sys.stdout
    models, is_all = listed(connect(args, environ))
    if args.all and not is_all:
        sys.stderr.write("llmsnap: this key is no admin's, so stopped models are not told\n")
    shown = [one for one in models if args.all or not one.is_stopped]
    if args.json:
        fields = [{name: asdict(one)[name] for name in JSON_FIELDS} for one in shown]
        out.write(json.dumps({"models": fields}, indent=2) + "\n")
    elif args.quiet:
        out.writelines(one.model + "\n" for one in shown)
    else:
        Terminal(out, environ).table([HEAD, *map(_row, shown)])
    return 0


def _row(one: Model) -> tuple[str, ...]:
    since = "-" if one.for_s is None or one.is_stopped else duration(one.for_s)
    return one.model, one.state, since, _ttl(one), str(one.in_flight), str(one.waiting)


def _ttl(one: Model) -> str:
    """Return the idle time that is allowed, and what is left of the one that runs."""
    if one.idle_in_s is not None:
        left = f"{duration(max(0.0, one.idle_in_s))} left"
        return f"{duration(one.ttl_s)}, {left}" if one.ttl_s > 0 else left
    return duration(one.ttl_s) if one.ttl_s > 0 else "-"
