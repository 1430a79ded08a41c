"""What a client sent, framework-free, and what it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from llmsnap.errors import LlmsnapError, in_full
from llmsnap.http.auth import ANYBODY, Key
from llmsnap.http.headers import Headers
from llmsnap.proxy.budget import Bodies, Held
from llmsnap.proxy.disconnect import ClientMonitor


class Request(Struct):
    """What the client sent, and what admission granted it.

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
    monitor: ClientMonitor
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
    requested: str = ""
    """The client's model name, as soon as it is known."""
    received_at: float = field(default_factory=time.monotonic)

    @property
    def key_name(self) -> str:
        """The name of the client's key, "" without one."""
        return self.key.name

    def explain(self, error: LlmsnapError) -> str:
        """Return what the client may read of *error*: admins all, others the message.

        Others get the id of the request instead, by which an admin finds the rest in the log.
        """
        if not error.detail:
            return str(error)
        return in_full(error) if self.key.admin else f"{error} (request {self.id})"


class Response(Struct):
    """What goes to the client. *body* is iterated once and then closed."""

    status: int
    reason: str
    headers: Headers
    body: Any
