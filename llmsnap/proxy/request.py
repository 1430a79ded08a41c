"""A client's request as the proxy sees it, the response, and the budget for all bodies.

Independent of the server and of Flask. ``UpstreamSettings`` defines how requests to one model or
peer are rewritten and sent, ``RequestConfig`` is the configuration that serves a request.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct, field

from llmsnap.config import Config, ModelConfig, PeerConfig
from llmsnap.errors import LlmsnapError, NoRoom, TooLarge, in_full
from llmsnap.http import ANYBODY, ClientKey, Headers, RequestRule
from llmsnap.limits import memory_bytes
from llmsnap.models import Address
from llmsnap.proxy.client import UpstreamTimeouts
from llmsnap.proxy.disconnect import ClientMonitor
from llmsnap.proxy.jsonbody import CompiledFilter
from llmsnap.routing import Names

MOST_MEMORY_BYTES = 1 << 30
MEMORY_SHARE, DISK_SHARE = 4, 2
"""Defaults: a quarter of the memory and half of the free disk."""
MIB = 1 << 20


class ByteLimit:
    """How many bytes may be held in one *place*; *key* is the setting."""

    __slots__ = ("_key", "_place", "limit_bytes", "used_bytes")

    def __init__(self, place: str, key: str) -> None:
        self._place = place
        self._key = key
        self.limit_bytes = sys.maxsize
        self.used_bytes = 0

    def __repr__(self) -> str:
        return f"<ByteLimit {self.used_bytes} of {self.limit_bytes} bytes {self._place}>"

    def check(self, held: int, size: int) -> None:
        """Check that a body of *size* bytes, *held* of them counted already, fits. Never switches.

        Raises: TooLarge if it never fits, NoRoom while other bodies leave too little.
        """
        limit = self.limit_bytes
        if size > limit:
            raise TooLarge(
                f"the body has {size} bytes or more, and {limit} may be held {self._place}; "
                f"{self._key} sets that"
            )
        if self.used_bytes + size - held > limit:
            raise NoRoom(
                f"the bodies of requests take up the {limit // MIB} MiB that may be held "
                f"{self._place} ({self._key}); try again when others are answered"
            )

    def change(self, held: int, size: int) -> None:
        """Count *size* bytes for a body that held *held*. Raises: as ``check``."""
        if size > held:
            self.check(held, size)
        self.used_bytes += size - held


class BodyBudget:
    """The limits of all bodies together; unlimited without a configuration."""

    def __init__(self, config: Config | None = None) -> None:
        self.memory = ByteLimit("in memory", "maxBodyMemory")
        self.disk = ByteLimit("on disk", "maxSpool")
        if config is not None:
            self.configure(config)

    def __repr__(self) -> str:
        return f"<BodyBudget {self.memory!r}, {self.disk!r}>"

    def configure(self, config: Config) -> None:
        """Apply new limits; bytes held already still count. Never switches."""
        self.memory.limit_bytes = config.max_body_memory_bytes or min(
            MOST_MEMORY_BYTES, memory_bytes() // MEMORY_SHARE
        )
        self.disk.limit_bytes = config.max_spool_bytes or _free_bytes() // DISK_SHARE


class BodyShare:
    """The share of one request's body in *budget*; ``close`` releases it."""

    __slots__ = ("_budget", "_in_memory", "_on_disk")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._in_memory = self._on_disk = 0

    def __repr__(self) -> str:
        return f"<BodyShare {self._in_memory} bytes in memory, {self._on_disk} on disk>"

    def expect(self, size: int, *, on_disk: bool = False) -> None:
        """Check that *size* bytes would fit, before any is read. Raises: TooLarge, NoRoom."""
        if on_disk:
            self._budget.disk.check(self._on_disk, size)
        else:
            self._budget.memory.check(self._in_memory, size)

    def in_memory(self, size: int) -> None:
        """Hold *size* bytes in memory from now on. Raises: TooLarge, NoRoom."""
        self._budget.memory.change(self._in_memory, size)
        self._in_memory = size

    def on_disk(self, size: int) -> None:
        """Hold *size* bytes on disk from now on. Raises: TooLarge, NoRoom."""
        self._budget.disk.change(self._on_disk, size)
        self._on_disk = size

    def close(self) -> None:
        """Hold nothing. Idempotent."""
        self._budget.memory.used_bytes -= self._in_memory
        self._budget.disk.used_bytes -= self._on_disk
        self._in_memory = self._on_disk = 0


def _free_bytes() -> int:
    """Return the free bytes of the folder for uploads; without one the upload itself fails."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return sys.maxsize


class Request(Struct):
    """A client's request, and what admission granted it.

    *path* is decoded, *raw_path* as the client sent it; *environ* has the headers under their WSGI
    names. *read* returns a piece of the body, b"" at its end, *length* is that of the whole (None:
    chunked). *client_ip* is the client's, *remote_ip* that of the connection: the client, or a
    trusted proxy.
    """

    id: str
    method: str
    path: str
    raw_path: str
    query: str
    environ: Mapping[str, Any]
    read: Callable[[int], bytes]
    length: int | None
    client_ip: str
    monitor: ClientMonitor
    accept: str = ""
    protocol: str = "HTTP/1.1"
    user_agent: str = ""
    remote_ip: str = ""
    socket: Any = None
    body_share: BodyShare = field(default_factory=lambda: BodyShare(BodyBudget()))
    """The share of its body in the budget, until it ends."""
    key: ClientKey = ANYBODY
    may_load: bool = True
    """Whether a model may be loaded for it; false for pages of other sites."""
    trusts_pages: bool = True
    """Whether pages of local servers may run in llmsnap's own origin."""
    session: str = ""
    """The client's session, as one of the headers of ``ui.activity.session_id`` names it."""
    requested: str = ""
    """The client's model name, as soon as it is known."""
    received_at: float = field(default_factory=time.monotonic)

    @property
    def key_name(self) -> str:
        """The name of the client's key, "" without one."""
        return self.key.name

    def explain(self, error: LlmsnapError) -> str:
        """Return the text of *error* for the client: in full for admins, else the message alone.

        Others get the id of the request instead, by which an admin finds the details in the log.
        """
        if not error.detail:
            return str(error)
        return in_full(error) if self.key.admin else f"{error} (request {self.id})"


class Response(Struct):
    """The response to the client. *body* is iterated once and then closed."""

    status: int
    reason: str
    headers: Headers
    body: Any


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """*model_name* replaces the name in the body when it is not empty."""

    rule: RequestRule
    filter: CompiledFilter | None
    timeouts: UpstreamTimeouts
    model_name: str = ""


class RequestConfig(Protocol):
    """The configuration that applies to a request from its beginning to its end."""

    config: Config
    names: Names

    @property
    def profile(self) -> str:
        """The name of the active profile; empty: none is."""

    def upstream_settings(self, model: ModelConfig) -> UpstreamSettings:
        """Return how requests to a local model are rewritten and sent."""

    def ignores(self, path: str) -> bool:
        """Whether a request for *path* below ``/upstream/<model>`` never loads a model."""

    def observes(self, path: str) -> bool:
        """Whether a GET of *path* below ``/upstream/<model>`` is a probe of the server."""

    def peer(self, peer: PeerConfig) -> tuple[UpstreamSettings, Address]:
        """Return how requests to a peer are rewritten and sent, and where."""
