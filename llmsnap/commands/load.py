"""``llmsnap load``: makes a model of a running server ready, and shows the progress."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from gevent.event import AsyncResult

from llmsnap.commands.client import ServerClient, add_server, connect, new_parser
from llmsnap.commands.models import Model, overview
from llmsnap.commands.terminal import Colour, Terminal, bar, duration
from llmsnap.errors import CommandFailed
from llmsnap.tasks import TaskGroup

DESCRIPTION = "Make a model of a running server ready; shows the progress until it is."
LOOK_EVERY_S = 0.25
AT_REST = frozenset({"stopped", "asleep"})


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("load", DESCRIPTION, "MODEL")
    add = parser.add_argument
    add("model", metavar="MODEL", help="id or alias")
    add("--no-wait", action="store_true", help="return at once")
    add("-q", "--quiet", action="store_true", help="no progress")
    return add_server(parser)


def main(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    terminal = Terminal(out or sys.stdout, environ)
    client = connect(args, environ)
    if args.no_wait:
        client.act("load", args.model, "?wait=0")
        terminal.line(f"{args.model}: asked for")
        return 0
    _load(client, args.model, None if args.quiet else Progress(args.model, terminal))
    return 0


def _load(client: ServerClient, name: str, progress: Progress | None) -> None:
    """Load *name*, and poll its status meanwhile. Blocks. Raises: CommandFailed."""
    outcome: AsyncResult[None] = AsyncResult()
    tasks = TaskGroup("load")
    tasks.spawn(name, _ask, client, name, outcome)
    try:
        while not outcome.ready():
            if progress is not None:
                progress.show(_find(client, name))
            outcome.wait(LOOK_EVERY_S)
        if progress is not None:
            progress.end()
        outcome.get()
    finally:
        tasks.kill()
    if progress is not None:
        progress.done()


def _ask(client: ServerClient, name: str, outcome: AsyncResult[None]) -> None:
    try:
        client.act("load", name)
    except CommandFailed as error:
        outcome.set_exception(error)
    else:
        outcome.set(None)


def _find(client: ServerClient, name: str) -> Model | None:
    """Return the model's status; None on any error, which the load itself will report."""
    try:
        return next((one for one in overview(client) if one.is_called(name)), None)
    except CommandFailed:
        return None


class Progress:
    """Shows a load: as a status line on a terminal, else as one line per state change."""

    def __init__(self, name: str, terminal: Terminal) -> None:
        self._name = name
        self._terminal = terminal
        self._began = time.monotonic()
        self._last_line = ""

    def __repr__(self) -> str:
        return f"<Progress of {self._name}>"

    def show(self, model: Model | None) -> None:
        """Show the status of *model*; None if it is unknown."""
        if model is None or (model.state in AT_REST and not model.why):
            return  # the server has not received the load request yet
        elapsed_s = time.monotonic() - self._began
        self._terminal.status(f"{self._name}: {live_text(model, elapsed_s)}")
        line = plain_text(model)
        if not self._terminal.is_live and line != self._last_line:
            self._last_line = line
            self._terminal.line(f"{self._name}: {line}")

    def end(self) -> None:
        """Remove the status line."""
        self._terminal.clear()

    def done(self) -> None:
        """Report that the model is ready."""
        took = duration(time.monotonic() - self._began)
        ready = self._terminal.paint("ready", Colour.GREEN)
        self._terminal.line(f"{self._name}: {ready} after {took}")


def plain_text(model: Model) -> str:
    """Return the state and its usual duration, or what a queued load is waiting for."""
    if model.state in {"starting", "waking"} and model.usual_s is not None:
        return f"{model.state}, usually {duration(model.usual_s)}"
    if model.state in AT_REST and model.why:
        return f"{model.state}: {model.why}"
    return model.state


def live_text(model: Model, elapsed_s: float) -> str:
    """Return the state, the elapsed time and, if loads were measured, the time left."""
    if model.state not in {"starting", "waking"}:
        return f"{plain_text(model)} ({duration(elapsed_s)})"
    so_far_s = model.for_s or 0.0
    if not model.usual_s:
        return f"{model.state} for {duration(so_far_s)}"
    left_s = model.usual_s - so_far_s
    left = f"{duration(left_s)} left" if left_s > 0 else f"usually {duration(model.usual_s)}"
    return f"{model.state} [{bar(so_far_s / model.usual_s)}] {duration(so_far_s)}, {left}"
