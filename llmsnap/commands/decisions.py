"""``llmsnap plan`` and ``llmsnap why``: what a load would do, and why a swap was done."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import urlencode

from llmsnap.commands.client import add_server, connect, new_parser
from llmsnap.commands.terminal import duration

LOST_BY = {
    "cost": "it costs more",
    "busy": "one of them is busy",
    "recent": "one of them was used more recently",
    "order": "it is equal, and later in the configuration",
    "late": "it became better after another plan had begun",
}

PLAN_DESCRIPTION = "Show what loading a model would do on a running server; changes nothing."


def plan_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("plan", PLAN_DESCRIPTION, "MODEL")
    add = parser.add_argument
    add("model", metavar="MODEL", help="id or alias of the model to load")
    add("--running", metavar="A,B", help="suppose that these models run, idle, and no others")
    add("--json", action="store_true", help="write the server's answer as JSON")
    return add_server(parser)


def plan(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = plan_parser().parse_args(argv)
    asked = {"model": args.model, **({} if args.running is None else {"running": args.running})}
    answer = connect(args, environ).get(f"/api/plan?{urlencode(asked)}")
    lines = [json.dumps(answer, indent=2)] if args.json else said_of_plan(answer)
    (out or sys.stdout).writelines(line + "\n" for line in lines)
    return 0


def said_of_plan(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences about an answer of ``/api/plan``."""
    model = answer["model"]
    match answer["answer"]:
        case "ready":
            yield f"{model} is ready: nothing would change."
        case "never_fits":
            yield f"{model} can never be loaded: {answer['reason']}"
        case "blocked":
            yield f"{model} would have to wait: {answer['reason']}"
        case _:
            yield f"Loading {model} would {_leaving(answer)}."
            yield from _details(answer)


WHY_DESCRIPTION = "Explain a swap of a running server: what left, at what cost, and why."


def why_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("why", WHY_DESCRIPTION, "SWAP")
    add = parser.add_argument
    add("swap", metavar="SWAP", type=int, help="number of the swap, the swap_id of log lines")
    add("--json", action="store_true", help="write the server's answer as JSON")
    return add_server(parser)


def why(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = why_parser().parse_args(argv)
    swap = connect(args, environ).get(f"/api/swaps/{args.swap}")["swap"]
    lines = [json.dumps(swap, indent=2)] if args.json else said_of_swap(swap)
    (out or sys.stdout).writelines(line + "\n" for line in lines)
    return 0


def said_of_swap(swap: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences about a swap of ``/api/swaps``."""
    outcome = f"{swap['outcome']}: {swap['error']}" if swap["error"] else swap["outcome"]
    yield f"Swap {swap['id']}: {swap['kind']} of {swap['target']} for {swap['reason']}, {outcome}."
    evicted = ", ".join(swap["evicted"])
    yield f"Evicted: {evicted}." if evicted else "Nothing was evicted."
    times = [f"{phase['name']} {duration(phase['ms'] / 1000)}" for phase in swap["phases"]]
    if times:
        yield f"Times: {', '.join(times)}."
    if swap["waiters"]:
        waited = duration(swap["longest_wait_ms"] / 1000)
        yield f"Requests that waited: {swap['waiters']}, the longest for {waited}."
    if swap["plan"] is not None:
        yield from _details(swap["plan"])


def _leaving(plan: Mapping[str, Any]) -> str:
    """Return "stop a and put b to sleep", or that nothing is evicted."""
    slept = [name for name in plan["victims"] if plan["how"].get(name) == "sleep"]
    stopped = [name for name in plan["victims"] if plan["how"].get(name) == "stop"]
    others = [name for name in plan["victims"] if name not in (*slept, *stopped)]
    parts = [f"evict {', '.join(others)}"] if others else []
    parts += [f"stop {', '.join(stopped)}"] if stopped else []
    parts += [f"put {', '.join(slept)} to sleep"] if slept else []
    return " and ".join(parts) or "evict nothing"


def _details(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a plan was chosen, and which others there were."""
    if plan["why"]:
        yield f"Why: {plan['why']}."
    if plan["victims"]:
        yield f"Cost: {plan['cost']:g}."
    if plan.get("combination"):
        yield f"Allowed by set {plan['set']}: {' & '.join(plan['combination'])}."
    if plan.get("device"):
        yield f"On {plan['device']}."
    for each in plan["considered"]:
        reason = LOST_BY.get(each["lost_by"], each["lost_by"])
        victims = ", ".join(each["victims"]) or "nothing"
        yield f"Not chosen: evict {victims}, at a cost of {each['cost']:g}: {reason}."
