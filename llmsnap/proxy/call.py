"""One request to us, framework-free, and what became of it on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from llmsnap.errors import LlmsnapError, in_full
from llmsnap.proxy.budget import Bodies, Held
from llmsnap.proxy.presence import Presence
from llmsnap.wire.auth import ANYBODY, Key
from llmsnap.wire.headers import Headers


class Call(Struct):
    """A request as the gateway got it, and the facts its access log line tells.

    *path* is decoded, *raw_path* as the client sent it; *read* returns a piece of the body, b"" at
    its end, *length* is that of the whole (None: chunked). *headers* returns the client's header
    list, *header* one of them by its WSGI name. *client_ip* is who asked, *remote_ip* who
    connected: a trusted proxy, or the same.
    """

    id: str
    method: str
    path: str
    raw_path: str
    query: str
    headers: Callable[[], Headers]
    header: Callable[[str], str]
    read: Callable[[int], bytes]
    length: int | None
    client_ip: str
    presence: Presence
    accept: str = ""
    protocol: str = "HTTP/1.1"
    user_agent: str = ""
    remote_ip: str = ""
    socket: Any = None
    held: Held = field(default_factory=lambda: Bodies().held())
    """What it holds of its body, until it is over."""
    key: Key = ANYBODY
    may_load: bool = True
    """Whether a model may be loaded for it: not for a page that may be of any site."""
    trusts_pages: bool = True
    """Whether pages of local servers may run in the origin the client sees here."""
    began: float = field(default_factory=time.monotonic)

    requested: str = ""
    """The client's model name."""
    served: str = ""
    """The model or peer that served it."""
    swap_id: int | None = None
    queue_s: float = 0.0
    load_s: float = 0.0
    first_byte_at: float | None = None
    stream: bool = False
    status: int = 0
    """What the client was told; for a stream that failed midway, what it should have been."""
    error: str = ""

    def explain(self, error: LlmsnapError) -> str:
        """Return what this request's client may read of *error*: admins all, others the message.

        Others get the id of the request instead, by which an admin finds the rest in the log.
        """
        if not error.detail:
            return str(error)
        return in_full(error) if self.key.admin else f"{error} (request {self.id})"


class Answer(Struct):
    """What goes to the client. *body* is iterated once and then closed."""

    status: int
    reason: str
    headers: Headers
    body: Any
