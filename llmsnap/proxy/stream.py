"""The body of a forwarded answer: passes each piece on, and settles everything when closed."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from typing import Any

from gevent import socket

from llmsnap.errors import Aborted, ClientGone, LlmsnapError, ModelLeft, in_full
from llmsnap.http import sse
from llmsnap.http.headers import ends_anywhere
from llmsnap.proxy.client import Exchange
from llmsnap.proxy.context import RequestContext

log = logging.getLogger(__name__)

LINGER_NOTHING = struct.pack("ii", 1, 0)  # socket(7): close() then sends RST

STILL_SILENT = sse.comment("waiting for the model")

ErrorEvent = Callable[[LlmsnapError, bytes], bytes]
"""What may still be said to the client of a stream that failed after the bytes it got last."""


class ProxyStream:
    """An iterator of pieces with ``close()``, which settles the request.

    A piece is read, shown to the observer, and passed on: no copy, no lock, no log line. Until the
    first one there is a comment after each *patience_s* of silence (0: none).
    """

    __slots__ = (
        "_context", "_ended_by_event", "_error_event", "_exchange", "_failed", "_feed", "_last",
        "_patience_s", "_was_left", "sent",
    )  # fmt: skip

    def __init__(
        self,
        context: RequestContext,
        exchange: Exchange,
        error_event: ErrorEvent | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._error_event = error_event
        self._patience_s = patience_s
        self._feed = context.observer.feed if context.observer is not None else None
        self._failed: LlmsnapError | None = None
        self._ended_by_event = False
        self._was_left = False
        self._last = b""
        self.sent = 0
        """How many bytes were passed on."""

    def __repr__(self) -> str:
        return f"<ProxyStream of {self._context!r}>"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._failed is not None:
            raise StopIteration if self._ended_by_event else Aborted(str(self._failed))
        if self._patience_s and not self._exchange.has_more(self._patience_s):
            return STILL_SILENT
        try:
            data = self._exchange.read()
        except LlmsnapError as error:
            reason = self._context.reason(error)
            if self._may_end(reason):
                raise StopIteration from error
            return self._fail(reason)
        if not data:
            raise StopIteration
        if not self.sent:
            self._patience_s = 0.0
        if self._feed is not None:
            self._feed(data)
        self._last = data
        self.sent += len(data)
        return data

    def _may_end(self, reason: LlmsnapError) -> bool:
        """Whether nothing that matters is missing when the answer ends here for this *reason*."""
        if isinstance(reason, ModelLeft) and ends_anywhere(self._exchange.headers):
            self._was_left = True
            return True
        takes_events = self._error_event is not None or isinstance(reason, ClientGone)
        return takes_events and sse.is_last(self._last)

    @property
    def is_told(self) -> bool:
        """Whether the client has all it can use: many leave at ``[DONE]``, before the very end."""
        return self._was_left or self._exchange.is_complete or sse.is_last(self._last)

    def close(self) -> None:
        """Settle everything; the first call counts. Never switches greenlets.

        An answer the server stopped asking for in the middle has lost its client.
        """
        context = self._context
        unread = self._failed is None and not self.is_told
        if unread and context.request.method != "HEAD":
            self._failed = note_departure(context)
        context.close(self._failed)

    def _fail(self, error: LlmsnapError) -> bytes:
        """Return the event that tells of *error*. Raises: Aborted where there can be none."""
        self._failed = error
        said = b""
        if self._error_event is not None and not isinstance(error, ClientGone):
            said = self._error_event(error, self._last)
        note_failure(self._context, error, is_told=bool(said))
        if not said:
            raise Aborted(str(error)) from error
        self._ended_by_event = True
        self.sent += len(said)
        return said


def note_failure(context: RequestContext, error: LlmsnapError, *, is_told: bool) -> None:
    """Put a failure after the first byte where log, record and connection will show it.

    A client that is told of it by an event sees the connection end as after any answer.
    """
    context.status = error.status
    if not isinstance(error, ClientGone):
        log.warning("<%s> %s", context.served_by, in_full(error), extra=context.log_ids)
    if context.request.protocol == "HTTP/1.0" and not is_told:
        reset_on_close(context.request.socket)


def note_departure(context: RequestContext) -> ClientGone:
    """Put it where the log will show that the client did not wait for the end."""
    error = ClientGone("the client left")
    context.status = error.status
    return error


def reset_on_close(sock: Any) -> None:
    """Have *sock* end with a reset: an end of file would look like a complete answer."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
