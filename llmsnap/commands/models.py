"""``llmsnap ps``, ``sleep``, ``unload``, ``profile``: the models of a running server, and names."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from llmsnap.commands.client import ServerClient, add_server, connect, new_parser
from llmsnap.commands.terminal import Terminal, duration
from llmsnap.errors import KeyRefused

STOPPED = frozenset({"stopped", "shutdown"})


@dataclass(frozen=True, slots=True)
class Model:
    """The status of one model. Times are in seconds, None if unknown or not applicable.

    *usual_s* is the usual duration of a load, or of a wake if the model sleeps; None before the
    first. *why* and *eta_s* are the reason of the present wait and its estimated rest.
    """

    model: str
    state: str
    for_s: float | None
    ttl_s: float
    idle_in_s: float | None
    in_flight: int
    waiting: int
    aliases: tuple[str, ...] = ()
    usual_s: float | None = None
    why: str = ""
    eta_s: float | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the model is stopped and no request waits for it."""
        return self.state in STOPPED and not self.waiting

    def is_called(self, name: str) -> bool:
        """Whether *name* is the model's id or one of its aliases."""
        return name == self.model or name in self.aliases


def overview(client: ServerClient) -> list[Model]:
    """Return all models, stopped ones included. Raises: KeyRefused without an admin key."""
    return [_of_overview(one) for one in client.get("/api/overview")["models"]]


def listed(client: ServerClient) -> tuple[list[Model], bool]:
    """Return the models that the key may see, and whether stopped ones are included."""
    try:
        return overview(client), True
    except KeyRefused:
        now = time.time()
        return [_of_running(one, now) for one in client.get("/running")["running"]], False


def _of_overview(one: dict[str, Any]) -> Model:
    rouses = one["state"] in {"asleep", "waking"}
    return Model(
        model=one["model_id"],
        state=one["state"],
        for_s=one["state_for_s"],
        ttl_s=one["ttl_s"],
        idle_in_s=one["rest_in_s"],
        in_flight=one["in_flight"],
        waiting=one["waiting"],
        aliases=tuple(one["aliases"]),
        usual_s=one["durations"]["wake" if rouses else "start"]["p50_s"],
        why=one["why"],
        eta_s=one["eta_s"],
    )


def _of_running(one: dict[str, Any], now: float) -> Model:
    return Model(
        model=one["model"],
        state=one["state"],
        for_s=max(0.0, now - one["since"]),
        ttl_s=one["ttl"],
        idle_in_s=one["idle_in_s"],
        in_flight=one["in_flight"],
        waiting=one["waiting"],
    )


PS_DESCRIPTION = "The models of a running server that run, or that requests wait for."
PS_HEAD = ("MODEL", "STATE", "SINCE", "TTL", "IN FLIGHT", "QUEUE")
PS_FIELDS = ("model", "state", "for_s", "ttl_s", "idle_in_s", "in_flight", "waiting")


def ps_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("ps", PS_DESCRIPTION)
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="stopped models too")
    add("-q", "--quiet", action="store_true", help="names only")
    add("--json", action="store_true", help="write JSON; durations in seconds")
    return add_server(parser)


def ps(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = ps_parser().parse_args(argv)
    out = out or sys.stdout
    models, is_all = listed(connect(args, environ))
    if args.all and not is_all:
        sys.stderr.write("llmsnap: this key is no admin's, so stopped models are not told\n")
    shown = [one for one in models if args.all or not one.is_stopped]
    if args.json:
        fields = [{name: asdict(one)[name] for name in PS_FIELDS} for one in shown]
        out.write(json.dumps({"models": fields}, indent=2) + "\n")
    elif args.quiet:
        out.writelines(one.model + "\n" for one in shown)
    else:
        Terminal(out, environ).table([PS_HEAD, *map(_ps_row, shown)])
    return 0


def _ps_row(one: Model) -> tuple[str, ...]:
    since = "-" if one.for_s is None or one.is_stopped else duration(one.for_s)
    return one.model, one.state, since, _ttl(one), str(one.in_flight), str(one.waiting)


def _ttl(one: Model) -> str:
    """Return the idle timeout, or what is left of a running one."""
    if one.idle_in_s is not None:
        left = f"{duration(max(0.0, one.idle_in_s))} left"
        return f"{duration(one.ttl_s)}, {left}" if one.ttl_s > 0 else left
    return duration(one.ttl_s) if one.ttl_s > 0 else "-"


SLEEP_DESCRIPTION = (
    "Put a model of a running server to sleep; returns when it sleeps or is stopped."
)


def sleep_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("sleep", SLEEP_DESCRIPTION, "MODEL")
    add = parser.add_argument
    add("model", metavar="MODEL", help="id or alias; its sleepMode must be enabled")
    add("--now", action="store_true", help="cut requests in flight instead of waiting for them")
    return add_server(parser)


def sleep(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = sleep_parser().parse_args(argv)
    client = connect(args, environ)
    client.act("sleep", args.model, "?drain=0" if args.now else "")
    models, _ = listed(client)
    state = next((one.state for one in models if one.is_called(args.model)), "stopped")
    (out or sys.stdout).write(f"{args.model}: {state}\n")
    return 0


UNLOAD_DESCRIPTION = "Stop a model of a running server; returns when it is gone."


def unload_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("unload", UNLOAD_DESCRIPTION, "MODEL|--all")
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="id or alias")
    add("-a", "--all", action="store_true", help="stop all models")
    add("--drain", action="store_true", help="wait for requests in flight instead of cutting them")
    return add_server(parser)


def unload(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    parser = unload_parser()
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


PROFILE_DESCRIPTION = "Show the profiles of a running server, or make one the active one."
PROFILE_HEAD = ("PROFILE", "ACTIVE", "PINS", "DESCRIPTION")


def profile_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("profile", PROFILE_DESCRIPTION, "[NAME|--none]")
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="the profile to activate")
    add("--none", action="store_true", help="activate none: names mean what models are called")
    add("--json", action="store_true", help="write the list as JSON")
    return add_server(parser)


def profile(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    parser = profile_parser()
    args = parser.parse_args(argv)
    if args.name is not None and args.none:
        parser.error("name one profile, or --none")
    client, out = connect(args, environ), out or sys.stdout
    if args.none or args.name:
        with client.send("PUT", "/api/profiles/active", {"name": args.name}):
            out.write(f"active profile: {args.name or 'none'}\n")
        return 0
    document = client.get("/api/profiles")
    if args.json:
        out.write(json.dumps(document, indent=2) + "\n")
        return 0
    rows = [_profile_row(one, document["active"]) for one in document["profiles"]]
    if not rows:
        out.write("the configuration has no profiles\n")
        return 0
    Terminal(out, environ).table([PROFILE_HEAD, *rows])
    return 0


def _profile_row(one: dict[str, Any], active: str | None) -> tuple[str, ...]:
    mark = "yes" if one["id"] == active else "-"
    return one["id"], mark, str(len(one["pins"])), one["description"]
