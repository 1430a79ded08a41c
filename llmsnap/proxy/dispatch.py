"""From a request to an answer: resolve, filter, acquire, forward, stream."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from llmsnap.errors import BadRequest, LlmsnapError, MethodNotAllowed, TooLarge, UnknownModel
from llmsnap.proxy import forward
from llmsnap.proxy.body import JsonRequest, parse_json
from llmsnap.proxy.call import Answer, Call
from llmsnap.proxy.client import Body, Exchange
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.proxy.stream import Tap
from llmsnap.proxy.target import Snapshot, Target
from llmsnap.routing.leases import Lease, Ticket
from llmsnap.routing.names import LocalRoute, PeerRoute, Route
from llmsnap.upstream.control import Address
from llmsnap.wire.paths import JSON_ROUTES, versioned

log = logging.getLogger(__name__)

READ_BYTES = 1 << 20


class Queue(Protocol):
    """Gives out the right to send a request to a model; the driver."""

    def request(
        self, model_id: str, *, max_wait_s: float | None = None, never_swap: bool = False
    ) -> Ticket:
        """Return a ticket, settled at once or later. Never switches."""


class Dispatcher:
    """Serves the inference routes. *address_of* tells where a ready model answers."""

    def __init__(
        self, queue: Queue, address_of: Callable[[str], Address], pool: ConnectionPool
    ) -> None:
        self._queue = queue
        self._address_of = address_of
        self._pool = pool

    def handle(self, call: Call, runtime: Snapshot) -> Answer:
        """Answer one inference request. Blocks until the head of the answer is there.

        Raises: LlmsnapError, and then nothing has been sent and nothing is held.
        """
        path = versioned(call.path)
        if path not in JSON_ROUTES:
            raise UnknownModel(f"nothing answers {call.path}")
        if call.method != "POST":
            raise MethodNotAllowed(f"{call.path} takes POST", ("POST", "OPTIONS"))
        request = parse_json(read_body(call, runtime.config.max_request_body_bytes))
        call.requested = request.model
        route = runtime.names.resolve(request.model)
        self._check_key(call, route)
        target, request = self._rewrite(runtime, route, request)
        call.stream = request.stream
        if isinstance(route, PeerRoute):
            _, address = runtime.peer(route.peer)
            call.served = route.peer.id
            return self._forward(call, target, address, request.raw, ExitStack())
        return self._serve_local(call, route, target, request.raw)

    def _serve_local(self, call: Call, route: LocalRoute, target: Target, body: bytes) -> Answer:
        model_id = call.served = route.model.id
        call.presence.open()
        with ExitStack() as stack:
            stack.callback(call.presence.close)
            lease = self._acquire(call, model_id)
            stack.callback(lease.close)
            address = self._address_of(model_id)
            return self._forward(call, target, address, body, stack, lease)

    def _acquire(self, call: Call, model_id: str) -> Lease:
        """Wait for the right to send one request to *model_id*; a client that leaves ends it."""
        ticket = self._queue.request(model_id)
        if not ticket.is_settled:
            call.presence.react(ticket.cancel)
            ticket.wait()
            call.presence.react(None)
        lease = ticket.take()
        call.queue_s = lease.waited_s - lease.load_s
        call.load_s = lease.load_s
        call.swap_id = lease.swap_id
        return lease

    def _forward(
        self,
        call: Call,
        target: Target,
        address: Address,
        body: Body,
        stack: ExitStack,
        lease: Lease | None = None,
    ) -> Answer:
        """Send to *address*; *stack*, what the request holds, passes to the answer's body."""
        with stack:
            exchange = Exchange(self._pool, address, target.limits)
            stack.callback(exchange.close)
            call.presence.react(exchange.abort)
            if lease is not None:
                lease.on_cut = exchange.abort
            self._send(exchange, call, target, body, lease)
            tap: Tap | None = None
            return forward.answer(call, exchange, tap, stack.pop_all().close)

    def _send(
        self, exchange: Exchange, call: Call, target: Target, body: Body, lease: Lease | None
    ) -> None:
        length = len(body) if isinstance(body, bytes) else None
        try:
            exchange.send(forward.outgoing(call, target, body, length))
        except LlmsnapError:
            call.presence.check()
            if lease is not None and lease.cut_error is not None:
                raise lease.cut_error from None
            raise

    def _rewrite(
        self, runtime: Snapshot, route: Route, request: JsonRequest
    ) -> tuple[Target, JsonRequest]:
        """Apply useModelName and filters; bytes stay untouched when nothing applies."""
        if isinstance(route, LocalRoute):
            target = runtime.target(route.model)
            name = target.model_name
        else:
            target, _ = runtime.peer(route.peer)
            name = route.upstream_name if route.upstream_name != route.requested else ""
        if name:
            request = request.rewrite({"model": json.dumps(name).encode()})
        if target.filter:
            request = request.rewrite(target.filter.edits(request, route.requested))
        return target, request

    def _check_key(self, call: Call, route: Route) -> None:
        name = route.model.id if isinstance(route, LocalRoute) else route.requested
        if not (call.key.may_use(name) or call.key.may_use(route.requested)):
            raise UnknownModel(f"no suitable inference handler for model {route.requested!r}")


def read_body(call: Call, limit_bytes: int) -> bytes:
    """Read the whole body. Raises: TooLarge, before reading where its length is known."""
    if call.length is not None and call.length > limit_bytes:
        raise TooLarge(
            f"the body has {call.length} bytes, more than maxRequestBody allows ({limit_bytes})"
        )
    if call.length is not None:
        body = call.read(call.length) if call.length else b""
        if len(body) < call.length:
            raise BadRequest(f"the body ended after {len(body)} of {call.length} bytes")
        return body
    pieces, size = [], 0
    while piece := call.read(READ_BYTES):
        size += len(piece)
        if size > limit_bytes:
            raise TooLarge(f"the body is larger than maxRequestBody allows ({limit_bytes} bytes)")
        pieces.append(piece)
    return b"".join(pieces)
