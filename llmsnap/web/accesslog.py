"""The access log: one line per finished request, as text or as JSON fields."""

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
    """The destination of access log entries: llmsnap's own log."""

    def takes(self, level: int) -> bool:
        """Whether entries of *level* are written."""

    def entry(self, level: int, message: AccessEntry, request_id: str, swap_id: int | None) -> None:
        """Write one entry. Never switches."""


class AccessEntry:
    """A request that ended after *took_s* seconds, and the number of bytes *sent* to its client.

    The log handler calls either ``str()`` or ``fields()``, so that only one form is built.
    """

    __slots__ = ("context", "sent", "took_s")

    def __init__(self, context: RequestContext, sent: int, took_s: float) -> None:
        self.context = context
        self.sent = sent
        self.took_s = took_s

    def __str__(self) -> str:
        """The text line: llama-swap's fields, then further known values as ``name=value``."""
        context, request = self.context, self.context.request
        sent = self.sent or -1  # llama-swap's value when no body was started
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
        """Return the entry as members of a JSON object: durations in ms, None if unknown."""
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
    """Write the entry of a finished request. Never switches greenlets.

    Bypasses Python's logging, which would double the cost of the entry.
    """
    request = context.request
    is_routine = request.method in SAFE_METHODS and _is_routine(request.path, context.status)
    level = logging.DEBUG if is_routine else logging.INFO
    if journal.takes(level):
        access = AccessEntry(context, sent, time.monotonic() - request.received_at)
        journal.entry(level, access, request.id, context.swap_id)


def _is_routine(path: str, status: int) -> bool:
    """Whether this is a successful request of a monitor or an open page, which is only noise."""
    return status < 400 and route_at(path).routine


def _first_byte_ms(context: RequestContext) -> float | None:
    """Milliseconds from arrival to the first byte of the model's response; None without one."""
    if context.first_byte_at is None:
        return None
    return milliseconds(context.first_byte_at - context.request.received_at)


def _escaped(text: str) -> str:
    """Return *text* escaped for use between double quotes."""
    if '"' in text or "\\" in text:
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return text


def _word(text: str) -> str:
    """Return *text* as one value: quoted if it could be read as several."""
    return text if _PLAIN.fullmatch(text) else f'"{_escaped(text)}"'
