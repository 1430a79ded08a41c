"""Inputs of the hot path in tests: requests, a queue that a test controls, a configuration."""

import io
import json
from itertools import count
from textwrap import dedent
from typing import Any

from gevent.event import Event

from llmsnap.config import loads
from llmsnap.errors import LlmsnapError
from llmsnap.http.auth import ClientKey
from llmsnap.http.headers import Headers
from llmsnap.proxy import Request, RequestContext
from llmsnap.routing import Lease, Standing, Ticket
from llmsnap.runtime import Runtime
from llmsnap.telemetry import ActivityLog, Capture, Captures, EventBus, Recorder
from llmsnap.telemetry.captures import Prepare


class FakeMonitor:
    """A client that disconnects when the test calls ``leave``."""

    def __init__(self) -> None:
        self.on_disconnect: Any = None
        self.opened = self.closed = 0

    def open(self, on_disconnect: Any) -> None:
        self.opened += 1
        self.on_disconnect = on_disconnect

    def close(self) -> None:
        self.closed += 1

    def leave(self) -> None:
        self.on_disconnect()


def make_request(
    path: str = "/v1/chat/completions",
    body: Any = None,
    *,
    method: str = "",
    headers: Headers | None = None,
    chunked: bool = False,
    **more: Any,
) -> Request:
    """Return a request: *path* with its query as sent, *body* as bytes or a value to encode."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    plain, _, query = path.partition("?")
    headers = headers or []
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers}
    if "HTTP_CONTENT_TYPE" in environ:
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
    settings: dict[str, Any] = {
        "id": "r-1",
        "method": method or ("GET" if body is None else "POST"),
        "path": plain,
        "raw_path": path,
        "query": query,
        "environ": environ,
        "read": io.BytesIO(raw).read,
        "length": None if chunked else len(raw),
        "client_ip": "203.0.113.9",
        "remote_ip": "203.0.113.9",
        "monitor": FakeMonitor(),
    }
    return Request(**{**settings, **more})


def observed(
    requested: str = "m",
    *,
    path: str = "/v1/chat/completions",
    query: str = "",
    method: str = "POST",
    request_id: str = "r1",
    headers: Headers | None = None,
    key_name: str = "",
    client_ip: str = "",
    received_at: float | None = None,
    **state: Any,
) -> RequestContext:
    """Return a request in flight, as an observer sees it; *state* sets fields of the context."""
    request = make_request(path, id=request_id, method=method, query=query, client_ip=client_ip)
    request.requested = requested
    request.key = ClientKey(name=key_name)
    if received_at is not None:
        request.received_at = received_at
    context = RequestContext(request)
    context.headers = headers or []
    for name, value in state.items():
        setattr(context, name, value)
    return context


def grant(
    context: RequestContext, queue_s: float, load_s: float, swap_id: int | None = None
) -> None:
    """Grant *context* a lease after a wait."""
    lease = Lease(1, context.model_id, lambda _: None)
    lease.waited_s, lease.load_s, lease.swap_id = queue_s + load_s, load_s, swap_id
    context.note_wait(lease)


class FakeQueue:
    """Issues tickets; the test grants or refuses them, or all are granted at once."""

    def __init__(self, *, grants: bool = True) -> None:
        self.grants = grants
        self.tickets: list[Ticket] = []
        self.asked: list[dict[str, Any]] = []
        self.cancelled: list[Ticket] = []
        self.returned: list[Lease] = []
        self.is_ready = False
        self.observed: list[str] = []
        self.came = Event()
        self.refusals: list[LlmsnapError] = []
        """What the next requests are refused with."""
        self.rechecks: list[bool] = []
        """Results of ``recheck_files``, the last one first."""
        self.standings: dict[str, Standing] = {}
        """How models stand; those that are not mentioned are ready."""
        self._numbers = count(1)

    def standing(self, model_id: str) -> Standing:
        return self.standings.get(model_id, Standing.READY)

    def request(self, model_id: str, **wishes: Any) -> Ticket:
        ticket = Ticket(next(self._numbers), model_id, self.cancelled.append)
        self.tickets.append(ticket)
        self.asked.append(wishes)
        if self.refusals:
            ticket.settle(self.refusals.pop(0))
        elif self.grants:
            self.grant(ticket)
        self.came.set()
        return ticket

    def observe(self, model_id: str) -> Lease | None:
        if not self.is_ready:
            return None
        self.observed.append(model_id)
        lease = Lease(next(self._numbers), model_id, self.returned.append)
        lease.is_loose = True
        return lease

    def recheck_files(self, model_id: str) -> bool:
        return self.rechecks.pop() if self.rechecks else False

    def lacks_memory(self, ticket: Ticket) -> bool:
        return False

    def position(self, ticket: Ticket) -> int | None:
        return 1 + self.tickets.index(ticket)

    def grant(self, ticket: Ticket | None = None) -> Lease:
        ticket = ticket or self.tickets[-1]
        lease = Lease(ticket.number, ticket.model_id, self.returned.append)
        ticket.settle(lease)
        return lease

    def refuse(self, error: LlmsnapError) -> None:
        self.tickets[-1].settle(error)


def runtime(text: str) -> Runtime:
    return Runtime(loads(dedent(text), environ={}))


def recorder() -> Recorder:
    return Recorder(ActivityLog(), Captures(1 << 20), EventBus())


def keep(captures: Captures, capture: Capture, prepare: Prepare | None = None) -> bool:
    """Store a finished capture."""
    largest = max(len(capture.req_body.data), len(capture.resp_body.data))
    return captures.add(capture.id, capture.size(), lambda: capture, prepare, largest)
