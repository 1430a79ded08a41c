"""``llmsnap plan`` and ``llmsnap why``: what a load would do, and why a swap or a wait was."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO
from urllib.parse import quote, urlencode

from llmsnap.commands.client import ServerClient, add_server, connect, new_parser
from llmsnap.errors import CommandFailed

PLAN_DESCRIPTION = "Show what loading a model would do on a running server; changes nothing."


def plan_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("plan", PLAN_DESCRIPTION, "MODEL")
    add = parser.add_argument
    add("model", metavar="MODEL", help="id or alias of the model to load")
    add("--running", metavar="A,B", help="suppose that these models run, idle, and no others")
    add("--memory", metavar="GPU0:SIZE,...", help="suppose that devices have these capacities")
    add("--json", action="store_true", help="write the server's answer as JSON")
    return add_server(parser)


def plan(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = plan_parser().parse_args(argv)
    wanted = {"model": args.model, "running": args.running, "memory": args.memory}
    asked = {name: value for name, value in wanted.items() if value is not None}
    answer = connect(args, environ).get(f"/api/plan?{urlencode(asked)}")
    lines = [json.dumps(answer, indent=2)] if args.json else answer["sentences"]
    (out or sys.stdout).writelines(line + "\n" for line in lines)
    return 0


WHY_DESCRIPTION = (
    "Explain a swap of a running server (what left, at what cost, and why), by default the "
    "last one, or a request: what it waits or waited for."
)


def why_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("why", WHY_DESCRIPTION, "[SWAP|REQUEST]")
    add = parser.add_argument
    what = "number of a swap, the swap_id of log lines; or id of a request, its X-Request-Id"
    add("what", nargs="?", default="", metavar="SWAP|REQUEST", help=what)
    what = "a number is the id of a request, or of its record in the activity, not of a swap"
    add("--request", action="store_true", help=what)
    add("--json", action="store_true", help="write the server's answer as JSON")
    return add_server(parser)


def why(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = why_parser().parse_args(argv)
    server = connect(args, environ)
    what = args.what or _last_swap(server)
    is_swap = what.isdecimal() and not args.request
    kind = "swaps" if is_swap else "requests"
    answer = server.get(f"/api/{kind}/{quote(what)}")
    shown = answer["swap"] if is_swap else answer
    lines = [json.dumps(shown, indent=2)] if args.json else answer["sentences"]
    (out or sys.stdout).writelines(line + "\n" for line in lines)
    return 0


def _last_swap(server: ServerClient) -> str:
    swaps = server.get("/api/swaps")["swaps"]
    if not swaps:
        raise CommandFailed("there was no swap since the server started")
    return str(swaps[-1]["id"])
