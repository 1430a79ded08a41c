"""The path from a request to its response: parse, resolve, acquire, forward, stream."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs, quote

from llmsnap.config import ModelConfig, PeerConfig
from llmsnap.errors import (
    BadRequest,
    ChildExited,
    LlmsnapError,
    NotReady,
    ServerEnded,
    UnknownModel,
    Unreachable,
    UpstreamBroke,
    UpstreamError,
    UpstreamRefused,
)
from llmsnap.http import (
    COMFYUI,
    PAGE_SANDBOX,
    SANDBOX,
    ModelPlace,
    Stream,
    from_environ,
    request_headers,
    route_at,
    sandboxed,
    stream_of,
)
from llmsnap.models import Address
from llmsnap.proxy import stream, tunnel, websocket
from llmsnap.proxy.client import Exchange, UpstreamTimeouts, nothing
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.jsonbody import is_true_word
from llmsnap.proxy.loading import (
    CommentFrames,
    LoadingStateFrames,
    LoadingStream,
    ModelWait,
    WaitFrames,
)
from llmsnap.proxy.payload import (
    MessagePayload,
    parse_message,
    parse_query,
    parse_request,
    parse_upstream,
)
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.proxy.request import RequestConfig, Response, UpstreamSettings
from llmsnap.routing import (
    Lease,
    LocalRoute,
    ModelRoute,
    PeerRoute,
    Route,
    Selection,
    SelectorRoute,
    Selectors,
    Standing,
    Ticket,
)
from llmsnap.telemetry import Recorder

log = logging.getLogger(__name__)

COMMENT_EVERY_S = 10.0
"""Seconds of silence that proxies in between tolerate; the first keep-alive is sent after that."""
OBSERVING_METHODS = frozenset({"GET", "HEAD"})
HEALTH_PATH = "/health"
"""A request for it below ``/upstream/<model>`` loads the model, as known tools expect, but does not
keep a loaded one."""
SERVED_BY = "X-Served-By"
"""Header of an answer through a selector: the target that gave it."""
SAFE_IN_HEADERS = "/:@._-~+*()[]{}, "
EXIT_LIMIT_S = 0.2
"""Seconds to wait for a server's exit after its connection has closed."""


class Queue(Protocol):
    """Grants leases, the right to send a request to a model; implemented by the driver."""

    def request(
        self, model_id: str, *, max_wait_s: float | None = None, never_swap: bool = False
    ) -> Ticket:
        """Return a ticket, settled at once or later. Never switches."""

    def observe(self, model_id: str) -> Lease | None:
        """Return a lease that takes no slot and keeps no model loaded; None if it is not ready."""

    def standing(self, model_id: str) -> Standing:
        """Return how soon a model can serve a further request. Never switches."""

    def recheck_files(self, model_id: str) -> bool:
        """End the back-off of a failing model if its files have changed; return whether. Blocks."""

    def position(self, ticket: Ticket) -> int | None:
        """Return the place of a waiting ticket in its model's queue, from 1."""

    def lacks_memory(self, ticket: Ticket) -> bool:
        """Return whether the model of *ticket* waits for memory that is not free."""


class Servers(Protocol):
    """The servers of local models; implemented by the service."""

    def address_of(self, model_id: str) -> Address:
        """Return the address of a ready model; each run has an object of its own.

        Raises: NotReady.
        """

    def wait_end(self, model_id: str, address: Address, limit_s: float) -> ChildExited | None:
        """Return how the run at *address* ended, None when it runs. Blocks up to *limit_s*."""

    def loaded(self, model_id: str) -> str:
        """Return how much of a loading model is loaded, for people; "": unknown. Never switches."""

    def known_properties(self, model: ModelConfig) -> dict[str, Any] | None:
        """Return the remembered properties of a model that is not ready; None if it is, or unknown.

        Never switches.
        """


class Dispatcher:
    """Serves inference requests.

    *deferred* runs deferred calls; they run, and the request's record is filed, while its model
    works.
    """

    def __init__(
        self,
        queue: Queue,
        servers: Servers,
        pool: ConnectionPool,
        recorder: Recorder,
        deferred: Callable[[], None] = nothing,
    ) -> None:
        self.selectors = Selectors(queue.standing)
        """What selectors remember between requests."""
        self._queue = queue
        self._servers = servers
        self._pool = pool
        self._recorder = recorder
        self._run_deferred = deferred
        self._random = random.Random()  # noqa: S311 - shuffles messages

    def handle(self, context: RequestContext, request_config: RequestConfig) -> Response:
        """Answer one request of an inference route. Blocks until the head of the response arrives.

        Raises: LlmsnapError; then nothing has been sent and no resource is held.
        """
        try:
            if tunnel.is_wanted(context.request) and _names_model_in_message(context):
                return self._accept(context, request_config)
            context.payload = parse_request(context.request, request_config)
        except LlmsnapError as error:
            self._fail(context, error)
            raise
        return self._serve(context, request_config)

    def handle_upstream(self, context: RequestContext, request_config: RequestConfig) -> Response:
        """Answer one request below ``/upstream``. Blocks as ``handle``, and raises the same."""
        request = context.request
        try:
            payload = context.payload = parse_upstream(request, request_config)
        except LlmsnapError as error:
            self._fail(context, error)
            raise
        rest = payload.path.partition("?")[0]
        if not rest:
            request_config.names.resolve_model(payload.requested, request.key.may_use)
            return stream.redirect(request, f"{payload.prefix}/{payload.path}")
        context.watches = stream.is_event_source(request)
        looks = request.method in OBSERVING_METHODS and request_config.observes(rest)
        context.observes = looks or (request.method in OBSERVING_METHODS and rest == HEALTH_PATH)
        is_comfyui = payload.prefix == COMFYUI
        context.is_recorded = not is_comfyui
        context.never_swap = looks or request_config.ignores(rest) or (is_comfyui and rest != "/")
        try:
            return self._serve(context, request_config)
        except NotReady:
            if context.watches:
                return stream.come_back_later()
            raise

    def handle_props(self, context: RequestContext, request_config: RequestConfig) -> Response:
        """Answer ``/props?model=``, which loads a model only if ``autoload`` requests it.

        Otherwise it only looks: a model that is not ready is described by what is known of it, and
        is not kept from going idle. Blocks as ``handle``, and raises the same.
        """
        autoload = parse_qs(context.request.query).get("autoload", [""])[0]
        context.payload = parse_query(context.request, request_config)
        context.observes = context.never_swap = not is_true_word(autoload)
        known = self._known_properties(context, request_config) if context.observes else None
        return self._serve(context, request_config) if known is None else stream.document(known)

    def _known_properties(
        self, context: RequestContext, request_config: RequestConfig
    ) -> dict[str, Any] | None:
        """Return what is known of a local model that is not ready; None for any other."""
        may_use = context.request.key.may_use
        try:
            route = request_config.names.resolve(context.payload.requested, may_use)
        except LlmsnapError:
            return None  # raised again, and recorded, by _serve
        return (
            self._servers.known_properties(route.model) if isinstance(route, LocalRoute) else None
        )

    def _accept(self, context: RequestContext, request_config: RequestConfig) -> Response:
        """Accept a WebSocket whose first message names the model. Raises: BadRequest."""
        request = context.request
        headers, protocol = websocket.handshake(request.environ)

        def open_tunnel(message: bytes) -> tuple[tunnel.Tunnel, list[bytes]]:
            payload = parse_message(request, request_config, message, protocol)
            context.payload = payload
            return self._open_tunnel(context, request_config, payload)

        body = websocket.AcceptedWebSocket(
            context,
            request_config.config.max_request_body_bytes,
            open_tunnel,
            partial(self._fail, context),
        )
        return Response(101, "Switching Protocols", headers, body)

    def _open_tunnel(
        self, context: RequestContext, request_config: RequestConfig, payload: MessagePayload
    ) -> tuple[tunnel.Tunnel, list[bytes]]:
        """Open a WebSocket to the model's server; return the tunnel and what to send first."""
        answer = self._serve(context, request_config)
        if not isinstance(answer.body, tunnel.Tunnel):
            raise UpstreamError(
                f"<{context.served_by}> has no WebSocket at {context.sent_path}: its server "
                f"answered {answer.status}"
            )
        message, payload.message = payload.message, b""
        # The tunnel releases it once it has been sent.
        context.request.body_share.in_memory(len(message))
        return answer.body, websocket.client_message(message)

    def _serve(self, context: RequestContext, request_config: RequestConfig) -> Response:
        """Serve *context*, which is closed here on failure, else by the body of the response."""
        request = context.request
        try:
            request.requested = context.payload.requested
            route = _resolve(context, request_config)
            if route.requested != request.requested:
                context.payload.pin(route.requested)
                context.profile = request_config.profile
            request.monitor.open(context.client_left)
            if isinstance(route, LocalRoute):
                answer = self._serve_local(context, request_config, route.model)
            elif isinstance(route, PeerRoute):
                answer = self._serve_peer(context, request_config, route)
            else:
                answer = self._serve_selected(context, request_config, route)
        except LlmsnapError as error:
            self._fail(context, error)
            raise
        except BaseException:
            self._fail(context, LlmsnapError("internal error"))
            raise
        policy = _page_policy(context, route) if context.payload.prefix else SANDBOX
        if policy and answer.status != 101:
            answer.headers = sandboxed(answer.headers, policy)
        return answer

    def _fail(self, context: RequestContext, error: LlmsnapError) -> None:
        """Record and close a request that *error* ended, parsed or not."""
        if not (context.watches and isinstance(error, NotReady)):
            self._record(context)
        context.close(error)

    def _while_sent(self, context: RequestContext) -> None:
        """Run deferred work while the upstream works."""
        self._record(context)
        self._run_deferred()

    def _record(self, context: RequestContext) -> None:
        """Start the record of *context*, as far as it is known by now. Never switches."""
        if context.observer is None:
            body, length = context.payload.body, context.payload.length
            buffered = body if isinstance(body, bytes) else b""
            context.observer = self._recorder.begin(context, buffered, length or 0)

    # --- local models --------------------------------------------------------------------------

    def _serve_local(
        self, context: RequestContext, request_config: RequestConfig, model: ModelConfig
    ) -> Response:
        """Acquire a lease, send, and return the response; retries once if the server ends."""
        _turn_to(context, request_config, model)
        lease = self._queue.observe(model.id) if context.observes else None
        exchange: Exchange | None = None
        while exchange is None:
            if lease is None:
                ticket = self._enqueue(context)
                if not ticket.is_settled:
                    frames = self._wait(context, model, ticket)
                    if frames is not None:
                        return self._loading(context, request_config, ticket, frames)
                lease = _take(context, ticket)
            try:
                exchange = self._send(context, lease)
            except ServerEnded:
                lease = None
        if not exchange.status:
            frames = CommentFrames(context.comment_every_s)
            return self._loading(context, request_config, None, frames)
        if context.request.method == "GET":
            _release_model_early(context, exchange, model)
        return stream.answer(context, exchange)

    def _enqueue(self, context: RequestContext) -> Ticket:
        """Return a ticket for the model; a new one if a failing model's files have changed."""
        enqueue, model_id = self._queue.request, context.model_id
        wait_s, never_swap = context.wait_left_s, context.never_swap
        ticket = enqueue(model_id, max_wait_s=wait_s, never_swap=never_swap)
        if ticket.has_failed and self._queue.recheck_files(model_id):
            ticket = enqueue(model_id, max_wait_s=wait_s, never_swap=never_swap)
        return ticket

    def _wait(
        self, context: RequestContext, model: ModelConfig, ticket: Ticket
    ) -> WaitFrames | None:
        """Wait until *ticket* is settled, or return the frames to send until then. Blocks."""
        self._record(context)
        context.wait_for(ticket)
        if context.stream and _gets_events(context):
            request = context.request
            if model.send_loading_state and stream_of(request.path) is Stream.CHAT:
                return LoadingStateFrames(model.id, request.id, self._random)
            if model.keepalive_while_loading and not ticket.wait(COMMENT_EVERY_S):
                return CommentFrames(COMMENT_EVERY_S)
        ticket.wait()
        return None

    def _loading(
        self,
        context: RequestContext,
        request_config: RequestConfig,
        ticket: Ticket | None,
        frames: WaitFrames,
    ) -> Response:
        """Return the response that begins while *context* waits for *ticket*, or for its server."""

        def send(lease: Lease) -> bool:
            context.note_wait(lease)
            return self._send(context, lease).status != 0

        # The head of this response is sent before the encoding of the upstream's is known.
        context.takes_plain = True
        context.headers = [one for one in context.headers if one[0] != "Accept-Encoding"]
        another = partial(self._another_ticket, context, request_config)
        queue = self._queue
        waiting = ModelWait(ticket, queue.position, queue.lacks_memory, self._loaded, another, send)
        has_head = partial(self._wait_head, context)
        return LoadingStream(
            context, waiting, frames, has_head, stream.error_event(context.request)
        ).answer()

    def _loaded(self, ticket: Ticket) -> str:
        return self._servers.loaded(ticket.model_id)

    def _wait_head(self, context: RequestContext) -> bool:
        """Wait until a silent server's answer begins, or for a while; return whether it has."""
        exchange, lease = context.exchange, context.lease
        if exchange is None:
            raise UpstreamError("the exchange with the model is over")
        if exchange.status:
            return True
        try:
            return stream.wait_head(context, exchange, context.comment_every_s)
        except UpstreamError as error:
            if lease is None:
                raise _of_peer(error) from error
            if isinstance(error, Unreachable):
                self._check_server(context, lease, exchange, error)
            raise

    def _another_ticket(
        self, context: RequestContext, request_config: RequestConfig, error: LlmsnapError
    ) -> Ticket | None:
        """Return what a stream waits for after *error*; None: the request was sent to a peer.

        Raises: *error* if it ends the request.
        """
        if isinstance(error, ServerEnded):
            ticket = self._enqueue(context)
            context.wait_for(ticket)
            return ticket
        while True:
            target = self._next_target(context, error)
            try:
                if isinstance(target, LocalRoute):
                    _turn_to(context, request_config, target.model)
                    ticket = self._enqueue(context)
                    context.wait_for(ticket)
                    return ticket
                self._send_to_peer(context, request_config, target.peer, target.upstream_name)
            except LlmsnapError as its_error:
                error = its_error
            else:
                return None

    def _send(self, context: RequestContext, lease: Lease) -> Exchange:
        """Send over a connection to the model of *lease*, and wait for the head of the response.

        Returns without it after a silence of ``context.comment_every_s``. Raises: ServerEnded when
        the model has to be loaded again; then no lease is held.
        """
        context.lease = lease
        try:
            address = self._servers.address_of(lease.model_id)
        except NotReady as error:  # it ended since the lease was granted
            raise self._ended(context, ChildExited(str(error)), error) from error
        if address.key:
            context.authorize(address.key)
        exchange = Exchange(self._pool, address, context.timeouts)
        context.hold(lease, exchange)
        context.explain_break = self._explain_break
        try:
            stream.send(context, exchange, partial(self._while_sent, context))
        except Unreachable as error:
            self._check_server(context, lease, exchange, error)
            raise
        return exchange

    def _check_server(
        self, context: RequestContext, lease: Lease, exchange: Exchange, error: Unreachable
    ) -> None:
        """Check whether *error* means that the model's server has ended. Blocks briefly.

        Raises: the error of ``_ended``, if so and the request may be sent again.
        """
        end = self._servers.wait_end(lease.model_id, exchange.address, EXIT_LIMIT_S)
        if end is not None and (not exchange.was_sent or stream.is_resendable(context)):
            raise self._ended(context, end, error) from error

    def _explain_break(self, context: RequestContext, error: UpstreamBroke) -> LlmsnapError:
        """Return *error* with how the model's server ended, if it did. Blocks briefly."""
        lease, exchange = context.lease, context.exchange
        if lease is None or exchange is None or context.interrupted is not None:
            return error
        end = self._servers.wait_end(lease.model_id, exchange.address, EXIT_LIMIT_S)
        return error if end is None else UpstreamBroke(f"{error}: {end}")

    def _ended(
        self, context: RequestContext, end: ChildExited, error: LlmsnapError
    ) -> LlmsnapError:
        """Return the error for the end of a model's server; the first one permits a retry.

        Not where another target of a selector serves instead.
        """
        if context.interrupted is not None:
            return context.interrupted
        if _has_another_target(context, end):
            return end
        if context.was_resent:
            what = f"this request was sent twice, and each time {end}"
            return ChildExited(what, detail=end.detail)
        context.was_resent = True
        context.release()
        log.warning(
            "<%s> ended before it answered: loading it again",
            context.model_id,
            extra=context.log_ids,
        )
        return ServerEnded(str(error))

    # --- peers ---------------------------------------------------------------------------------

    def _serve_peer(
        self, context: RequestContext, request_config: RequestConfig, route: PeerRoute
    ) -> Response:
        """Send to the first peer; to the next one only if nothing was sent to the previous."""
        peers = (route.peer, *route.others)
        for peer in peers:
            try:
                has_come = self._send_to_peer(context, request_config, peer, route.upstream_name)
            except UpstreamError as error:
                was_sent = context.exchange is None or context.exchange.was_sent
                if was_sent or peer is peers[-1]:
                    raise
                log.warning(
                    "peer %s: %s; trying the next one", peer.id, error, extra=context.log_ids
                )
            else:
                if has_come and context.exchange is not None:
                    return stream.answer(context, context.exchange)
                return self._loading(context, request_config, None, CommentFrames(COMMENT_EVERY_S))
        raise UnknownModel(f'model not found: "{route.requested}"; no peer offers it')

    def _send_to_peer(
        self,
        context: RequestContext,
        request_config: RequestConfig,
        peer: PeerConfig,
        upstream_name: str,
    ) -> bool:
        """Send to *peer*; return whether the head of the response has come. Raises: UpstreamError.

        Returns without it after a silence of ``context.comment_every_s``.
        """
        settings, address = request_config.peer(peer)
        context.peer = peer.id
        _adapt(context, settings, upstream_name)
        exchange = Exchange(self._pool, address, context.timeouts, keeps_chunked=True)
        keeps_alive = request_config.config.keepalive_while_loading
        if keeps_alive and context.stream and _gets_events(context):
            context.comment_every_s = COMMENT_EVERY_S
        self._record(context)
        context.abort_on_interrupt(exchange)
        try:
            return stream.send(context, exchange, self._run_deferred)
        except UpstreamError as error:
            exchange.close()
            raise _of_peer(error) from error

    # --- selectors -----------------------------------------------------------------------------

    def _serve_selected(
        self, context: RequestContext, request_config: RequestConfig, route: SelectorRoute
    ) -> Response:
        """Serve by the target that the selector chooses; by another one if that fails."""
        session = _session_of(context, route.selector.affinity)
        selection = context.selection = self.selectors.begin(route, session)
        target = selection.next()
        context.payload.pin(target.requested)
        while True:
            try:
                if isinstance(target, LocalRoute):
                    answer = self._serve_local(context, request_config, target.model)
                else:
                    answer = self._serve_peer(context, request_config, target)
            except LlmsnapError as error:
                target = self._next_target(context, error)
            else:
                return _signed(answer, selection)

    def _next_target(self, context: RequestContext, error: LlmsnapError) -> ModelRoute:
        """Return the target that serves *context* after *error* of another. Raises: *error*."""
        selection = context.selection
        if selection is None:
            raise error
        goes_on = _has_another_target(context, error)
        selection.failed(error)
        if not goes_on:
            raise error
        log.warning(
            "selector %s: %s failed: %s; trying the next target",
            selection.route.selector.id,
            selection.target,
            str(error).partition("\n")[0],
            extra=context.log_ids,
        )
        context.leave_target()
        target = selection.next()
        context.payload.pin(target.requested)
        return target


def _names_model_in_message(context: RequestContext) -> bool:
    request = context.request
    return route_at(request.path, request.method).model is ModelPlace.MESSAGE


def _session_of(context: RequestContext, affinity: tuple[str, ...]) -> str:
    """Return what the client calls the session of its request, "" without a name."""
    environ = context.request.environ
    values = (environ.get(f"HTTP_{name.upper().replace('-', '_')}", "") for name in affinity)
    return next((value for value in values if value), "")


def _has_another_target(context: RequestContext, error: LlmsnapError) -> bool:
    """Whether another target of a selector serves *context* after *error*."""
    if context.selection is None or context.interrupted is not None:
        return False
    return context.can_repeat and context.selection.goes_on_after(error)


def _signed(answer: Response, selection: Selection) -> Response:
    """Return *answer* with the name of its target, if that does not change any more."""
    if not isinstance(answer.body, LoadingStream):
        kept = [one for one in answer.headers if one[0].lower() != SERVED_BY.lower()]
        answer.headers = [*kept, (SERVED_BY, quote(selection.target, SAFE_IN_HEADERS))]
    return answer


def _turn_to(context: RequestContext, request_config: RequestConfig, model: ModelConfig) -> None:
    """Have *model* serve *context*."""
    settings = request_config.upstream_settings(model)
    context.model_id = model.id
    if priorities := request_config.config.scheduler.priorities:
        context.priority = priorities.get(model.id, 0)
    _adapt(context, settings, settings.model_name)
    _set_wait_rules(context, model)


def _resolve(context: RequestContext, request_config: RequestConfig) -> Route:
    """Return what serves the model that *context* requests. Raises: UnknownModel."""
    names, request = request_config.names, context.request
    if context.payload.prefix == COMFYUI:  # a certain model, whatever the active profile says
        return names.resolve_model(request.requested, request.key.may_use)
    return names.resolve(request.requested, request.key.may_use)


def _set_wait_rules(context: RequestContext, model: ModelConfig) -> None:
    """Set how long *context* may wait for *model*, by the client's headers and configuration."""
    request = context.request
    context.watches = context.watches and model.ignore_streams
    if max_wait := request.environ.get("HTTP_X_MAX_WAIT"):
        context.max_wait_s = _max_wait_s(max_wait)
    if (
        context.watches
        or not request.may_load
        or (model.ignore_websockets and tunnel.is_wanted(request))
        or request.environ.get("HTTP_X_SWAP", "").strip().lower() == "never"
    ):
        context.never_swap = True
    if model.keepalive_while_loading and context.stream and _gets_events(context):
        context.comment_every_s = COMMENT_EVERY_S


def _take(context: RequestContext, ticket: Ticket) -> Lease:
    """Return the lease, and note its waiting times. Raises: the error that refused it."""
    try:
        lease = ticket.take()
    except LlmsnapError as error:
        raise context.reason(error) from error
    context.note_wait(lease)
    return lease


def _release_model_early(context: RequestContext, exchange: Exchange, model: ModelConfig) -> None:
    """Stop keeping *model* loaded for a GET response that stays open, if *model* is set to."""
    if model.ignore_websockets and exchange.status == 101:
        context.loosen(0.0)
        if context.selection is not None:
            context.selection.close()
    elif model.ignore_streams:
        context.loosen(stream.stays_open(context, exchange))


def _gets_events(context: RequestContext) -> bool:
    """Whether *context*'s client, which requested a stream, is answered by server-sent events."""
    if context.payload.prefix:
        return False
    return stream_of(context.request.path) is not None


def _adapt(context: RequestContext, settings: UpstreamSettings, name: str) -> None:
    """Adapt the forwarded request to *settings* of an upstream that calls the model *name*."""
    payload, request, rule = context.payload, context.request, settings.rule
    payload.adapt(settings, name)
    context.stream, context.timeouts = payload.stream, settings.timeouts
    if context.selection is not None:
        context.timeouts = _limited(settings.timeouts, context.selection)
    if request.method == "GET" and tunnel.is_wanted(request):
        rule = replace(rule, upgrade=True)
    headers = request_headers(from_environ(request.environ), rule, request.remote_ip)
    if context.takes_plain:
        headers = [header for header in headers if header[0] != "Accept-Encoding"]
    if payload.drops:
        headers = [header for header in headers if header[0].lower() not in payload.drops]
    context.headers = [*headers, *payload.adds, (stream.REQUEST_ID, request.id)]
    context.secret_headers = rule.secret


def _limited(timeouts: UpstreamTimeouts, selection: Selection) -> UpstreamTimeouts:
    """Return *timeouts* with the ``headerTimeout`` of the selector, if that is shorter."""
    selector = selection.route.selector
    limit_s = selector.header_timeout_s if selector.strategy == "failover" else 0.0
    if not limit_s or 0 < timeouts.head_s <= limit_s:
        return timeouts
    return replace(timeouts, head_s=limit_s)


def _page_policy(context: RequestContext, route: Route) -> str:
    """Return the Content-Security-Policy that isolates a response below ``/upstream``; "": none.

    Only local servers have pages worth running.
    """
    if not isinstance(route, LocalRoute):
        return SANDBOX
    wanted = route.model.sandbox
    return PAGE_SANDBOX if (not context.request.trusts_pages if wanted is None else wanted) else ""


def _of_peer(error: UpstreamError) -> UpstreamError:
    if isinstance(error, UpstreamRefused):
        return error
    return type(error)(f"peer proxy error: {error}")


def _max_wait_s(header: str) -> float | None:
    """Return the seconds of an X-Max-Wait header, None without one. Raises: BadRequest."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise BadRequest(f"X-Max-Wait must be a number of seconds, not {header!r}")
    return seconds
