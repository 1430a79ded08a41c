"""Doubles of what a response is made of."""

from typing import Any

from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.payload import Payload
from tests.fakes.calls import make_request


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
