"""The access log: one line for each request that ended, as text or as fields."""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Protocol

from llmsnap.http import SAFE_METHODS, route_at
from llmsnap.proxy import RequestContext
from llmsnap.telemetry import milliseconds

_PLAIN = re.compile(r"[\w.:/@+-]+")


class Journal(Protocol):
    """Where entries go; the proxy's log."""

    def takes(self, level: int) -> bool:
        """Whether entries of *level* are written."""

    def entry(self, level: int, message: AccessEntry, request_id: str, swap_id: int | None) -> None:
        """Write one entry. Never switches."""


class AccessEntry:
    """A request that ended after *took_s*, and how many bytes its client was *sent*.

    The logging handler asks for whichever form it writes, so that only that one is made.
    """

    __slots__ = ("context", "sent", "took_s")

    def __init__(self, context: RequestContext, sent: int, took_s: float) -> None:
        self.context = context
        self.sent = sent
        self.took_s = took_s

    def __str__(self) -> str:
        """The line: llama-swap's fields, then ``name=value`` for what else is known."""
        context, request = self.context, self.context.request
        sent = self.sent or -1  # llama-swap's value for a body that was never begun
        line = (
            f"{request.client_ip or '-'} "
            f'"{request.method} {_escaped(request.path)} {request.protocol}" '
            f'{context.status} {sent} "{_escaped(request.user_agent)}" {self.took_s * 1000:.1f}ms'
        )
        if request.key.name:
            line += f" key={_word(request.key.name)}"
        if request.requested:
            line += f" model={_word(request.requested)}"
        if served := context.served_by:
            line += (
                f" served={_word(served)}"
                f" queue_ms={context.queue_s * 1000:.1f} load_ms={context.load_s * 1000:.1f}"
            )
        first_ms = _first_byte_ms(context)
        return line if first_ms is None else f"{line} first_byte_ms={first_ms:.1f}"

    def fields(self) -> dict[str, Any]:
        """The same as the members of a JSON object: durations in milliseconds, null unknown."""
        context, request = self.context, self.context.request
        waited = bool(context.served_by)
        return {
            "client": request.client_ip,
            "key": request.key.name or None,
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "status": context.status,
            "bytes": self.sent,
            "user_agent": request.user_agent,
            "model_requested": request.requested or None,
            "model_served": context.served_by or None,
            "queue_ms": milliseconds(context.queue_s) if waited else None,
            "load_ms": milliseconds(context.load_s) if waited else None,
            "first_byte_ms": _first_byte_ms(context),
            "total_ms": milliseconds(self.took_s),
        }


def write(journal: Journal, context: RequestContext, sent: int) -> None:
    """Write the line of a request that has ended. Never switches greenlets.

    Past Python's logging, which would cost every request as much again as the line itself.
    """
    request = context.request
    is_routine = request.method in SAFE_METHODS and _is_routine(request.path, context.status)
    level = logging.DEBUG if is_routine else logging.INFO
    if journal.takes(level):
        access = AccessEntry(context, sent, time.monotonic() - request.received_at)
        journal.entry(level, access, request.id, context.swap_id)


def _is_routine(path: str, status: int) -> bool:
    """Whether a request of a monitor or page succeeded; it would drown those that matter."""
    return status < 400 and route_at(path).routine


def _first_byte_ms(context: RequestContext) -> float | None:
    """From arrival to the first byte of the model's answer; None when there was none."""
    if context.first_byte_at is None:
        return None
    return milliseconds(context.first_byte_at - context.request.received_at)


def _escaped(text: str) -> str:
    """*text* as it may stand between quotes, so that a client cannot end them."""
    if '"' in text or "\\" in text:
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return text


def _word(text: str) -> str:
    """*text* as a value: quoted when it could look like more than one."""
    return text if _PLAIN.fullmatch(text) else f'"{_escaped(text)}"'
