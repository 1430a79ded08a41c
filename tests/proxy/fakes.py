"""Doubles of what a response is made of."""

from typing import Any

from llmsnap.http.headers import RequestRule
from llmsnap.proxy.client import UpstreamTimeouts
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.dispatch import Dispatcher
from llmsnap.proxy.jsonbody import CompiledFilter
from llmsnap.proxy.payload import Payload
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.proxy.request import UpstreamSettings
from tests.fakes.calls import FakeQueue, make_request, recorder


class FakeExchange:
    """An answer in *pieces*; an error among them is raised. With *sock* it switched protocols."""

    reason = "Switching Protocols"

    def __init__(
        self, *pieces: bytes | Exception, status=200, kind="text/event-stream", sock=None, early=b""
    ) -> None:
        self.pieces = list(pieces)
        self.status = 101 if sock else status
        self.headers = [("Content-Type", kind)]
        self.sock, self.early = sock, early
        self.aborted = self.closed = 0

    @property
    def is_complete(self) -> bool:
        return not self.pieces

    def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    def upgraded(self) -> tuple[Any, bytes]:
        return self.sock, self.early

    def abort(self) -> None:
        self.aborted += 1

    def close(self) -> None:
        self.closed += 1
        if self.sock is not None:
            self.sock.close()


def sent(payload: Payload) -> bytes:
    """The body that goes on."""
    return payload.body if isinstance(payload.body, bytes) else b"".join(payload.body())


def target(strip=(), **settings: Any) -> UpstreamSettings:
    """The settings of an upstream whose filters *strip* and set parameters."""
    filters = CompiledFilter.from_settings(strip, settings)
    return UpstreamSettings(RequestRule(), filters, UpstreamTimeouts())


class FakeContext(RequestContext):
    """Notes what its observer is shown, and how it ends."""

    def __init__(self, path: str = "/v1/chat/completions", **facts: Any) -> None:
        super().__init__(make_request(path, **facts))
        self.observer = self
        self.seen = b""
        self.ends: list = []
        self.why: Exception | None = None

    def feed(self, data: bytes) -> None:
        self.seen += data

    def reason(self, error):
        return self.why or error

    def close(self, error=None) -> None:
        self.ends.append(error)


class DispatchWorld:
    """A dispatcher whose queue a test controls, and what it records."""

    def __init__(self, servers: Any) -> None:
        self.queue, self.pool, self.recorder = FakeQueue(), ConnectionPool(), recorder()
        self.dispatcher = Dispatcher(self.queue, servers, self.pool, self.recorder)

    @property
    def records(self) -> list:
        return self.recorder.activity.snapshot()

    def recorded(self, *fields: str) -> tuple:
        """The *fields* of the only record."""
        (record,) = self.records
        return tuple(getattr(record, field) for field in fields)

    def close(self) -> None:
        assert not self.recorder.in_flight(), "every request is filed"
        given = [ticket for ticket in self.queue.tickets if ticket._error is None]
        assert not given, "every lease is taken"
        self.pool.close()
