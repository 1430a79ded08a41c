"""The access log: one line for each request that ended, as text or as fields."""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Protocol

from llmsnap.durations import milliseconds
from llmsnap.proxy.call import Call
from llmsnap.wire.paths import SAFE_METHODS

ROUTINE = frozenset(
    {
        "/health",
        "/ready",
        "/wol-health",
        "/metrics",
        "/",
        "/favicon.ico",
        "/api/version",
        "/api/overview",
        "/api/timeline",
        "/api/performance",
        "/api/inflight",
        "/api/swaps",
        "/api/activity",
        "/api/activity/stats",
    }
)
"""What monitors, and pages of the user interface that are open, ask again and again."""

_PLAIN = re.compile(r"[\w.:/@+-]+")


class Journal(Protocol):
    """Where entries go; the proxy's log."""

    def takes(self, level: int) -> bool:
        """Whether entries of *level* are written."""

    def entry(self, level: int, message: Access, request_id: str, swap_id: int | None) -> None:
        """Write one entry. Never switches."""


class Access:
    """A request that ended after *took_s*, and how many bytes its client was *sent*.

    The logging handler asks for whichever form it writes, so that only that one is made.
    """

    __slots__ = ("call", "sent", "took_s")

    def __init__(self, call: Call, sent: int, took_s: float) -> None:
        self.call = call
        self.sent = sent
        self.took_s = took_s

    def __str__(self) -> str:
        """The line; after what the original wrote, ``name=value`` for what else is known."""
        call = self.call
        sent = self.sent or -1  # the original's word for a body that was never begun
        return (
            f'{call.client_ip or "-"} "{call.method} {_escaped(call.path)} {call.protocol}" '
            f'{call.status} {sent} "{_escaped(call.user_agent)}" {self.took_s * 1000:.1f}ms'
            f"{self._more()}"
        )

    def fields(self) -> dict[str, Any]:
        """The same as the members of a JSON object: durations in milliseconds, null unknown."""
        call = self.call
        waited = bool(call.served)
        return {
            "client": call.client_ip,
            "key": call.key.name or None,
            "method": call.method,
            "path": call.path,
            "protocol": call.protocol,
            "status": call.status,
            "bytes": self.sent,
            "user_agent": call.user_agent,
            "model_requested": call.requested or None,
            "model_served": call.served or None,
            "queue_ms": milliseconds(call.queue_s) if waited else None,
            "load_ms": milliseconds(call.load_s) if waited else None,
            "first_byte_ms": _first_byte_ms(call),
            "total_ms": milliseconds(self.took_s),
        }

    def _more(self) -> str:
        call = self.call
        more = f" key={_word(call.key.name)}" if call.key.name else ""
        if call.requested:
            more += f" model={_word(call.requested)}"
        if call.served:
            more += (
                f" served={_word(call.served)}"
                f" queue_ms={call.queue_s * 1000:.1f} load_ms={call.load_s * 1000:.1f}"
            )
        first_ms = _first_byte_ms(call)
        return more if first_ms is None else f"{more} first_byte_ms={first_ms:.1f}"


def write(journal: Journal, call: Call, sent: int) -> None:
    """Write the line of a request that has ended. Never switches greenlets.

    Past Python's logging, which would cost every request as much again as the line itself.
    """
    level = logging.DEBUG if _is_routine(call) else logging.INFO
    if journal.takes(level):
        access = Access(call, sent, time.monotonic() - call.began)
        journal.entry(level, access, call.id, call.swap_id)


def _is_routine(call: Call) -> bool:
    """Whether all went as ever with a request that would drown those that matter."""
    if call.method not in SAFE_METHODS or call.status >= 400:
        return False
    return call.path in ROUTINE or call.path == "/ui" or call.path.startswith("/ui/")


def _first_byte_ms(call: Call) -> float | None:
    """From arrival to the first byte of the model's answer; None when there was none."""
    return None if call.first_byte_at is None else milliseconds(call.first_byte_at - call.began)


def _escaped(text: str) -> str:
    """*text* as it may stand between quotes, so that a client cannot end them."""
    if '"' in text or "\\" in text:
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return text


def _word(text: str) -> str:
    """*text* as a value: quoted when it could look like more than one."""
    return text if _PLAIN.fullmatch(text) else f'"{_escaped(text)}"'
