"""From a request to an answer: take in, resolve, acquire, forward, stream."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol
from urllib.parse import parse_qs

from llmsnap.config.settings import ModelConfig
from llmsnap.errors import (
    BadRequest,
    ChildExited,
    LlmsnapError,
    NotReady,
    ServerEnded,
    UnknownModel,
    Unreachable,
    UpstreamError,
)
from llmsnap.metrics.recorder import Recorder
from llmsnap.metrics.tap import RequestFacts, Tap
from llmsnap.proxy import forward, intake, tunnel
from llmsnap.proxy.body import is_true_word
from llmsnap.proxy.call import Answer, Call
from llmsnap.proxy.client import Exchange, nothing
from llmsnap.proxy.intake import Work
from llmsnap.proxy.job import Job
from llmsnap.proxy.loading import Comments, Frames, LoadingStream, Waiting
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.proxy.remarks import LoadingState
from llmsnap.proxy.target import Snapshot, Target
from llmsnap.routing.leases import Lease, Ticket
from llmsnap.routing.names import LocalRoute, PeerRoute, Route
from llmsnap.upstream.control import Address
from llmsnap.wire.headers import PAGE_SANDBOX, SANDBOX, Headers, request_headers, sandboxed
from llmsnap.wire.paths import streams_events, versioned
from llmsnap.wire.secrets import REDACTED

log = logging.getLogger(__name__)

COMMENT_EVERY_S = 10.0
"""Middle boxes bear this much silence; the first sign of life comes after as long."""
OBSERVING_METHODS = frozenset({"GET", "HEAD"})
HEALTH_PATH = "/health"
"""Below ``/upstream/<model>`` it loads a model, as known tools expect, but keeps none that is."""
LOADING_STATE_PATH = "/v1/chat/completions"
EXIT_LIMIT_S = 0.2
"""How long after its connection the exit of a dying server is waited for."""


class Queue(Protocol):
    """Gives out the right to send a request to a model; the driver."""

    def request(
        self, model_id: str, *, max_wait_s: float | None = None, never_swap: bool = False
    ) -> Ticket:
        """Return a ticket, settled at once or later. Never switches."""

    def observe(self, model_id: str) -> Lease | None:
        """Return a lease that takes no slot and keeps no model; None if it is not ready."""

    def recheck_files(self, model_id: str) -> bool:
        """End the back-off of a failing model if its files have changed; return whether. Blocks."""

    def position(self, ticket: Ticket) -> int | None:
        """Return the place of a waiting ticket in its model's queue, from 1."""


class Servers(Protocol):
    """The servers of local models; the service."""

    def address_of(self, model_id: str) -> Address:
        """Return where a ready model answers; each run has an object of its own.

        Raises: NotReady.
        """

    def wait_end(self, model_id: str, address: Address, limit_s: float) -> ChildExited | None:
        """Return how the run at *address* ended, None when it runs. Blocks up to *limit_s*."""


class Dispatcher:
    """Serves inference.

    *chores* does what has been put off; that and the request's own record are seen to while its
    model works.
    """

    def __init__(
        self,
        queue: Queue,
        servers: Servers,
        pool: ConnectionPool,
        recorder: Recorder,
        chores: Callable[[], None] = nothing,
    ) -> None:
        self._queue = queue
        self._servers = servers
        self._pool = pool
        self._recorder = recorder
        self._chores = chores
        self._chance = random.Random()  # noqa: S311 - shuffles remarks

    def handle(self, call: Call, snapshot: Snapshot) -> Answer:
        """Answer one request of an inference route. Blocks until the answer's head is there.

        Raises: LlmsnapError, and then nothing has been sent and nothing is held.
        """
        work = self._take_in(intake.take_in, call, snapshot)
        return self._serve(Job(call, work), snapshot)

    def handle_upstream(self, call: Call, snapshot: Snapshot) -> Answer:
        """Answer one request below ``/upstream``. Blocks as ``handle``, and raises the same."""
        work = self._take_in(intake.take_in_upstream, call, snapshot)
        rest = work.path.partition("?")[0]
        if not rest:
            snapshot.names.resolve(work.requested, call.key.may_use)
            return forward.redirect(call, f"{work.prefix}/{work.path}")
        job = Job(call, work)
        job.watches = forward.is_event_source(call)
        looks = call.method in OBSERVING_METHODS and snapshot.observes(rest)
        job.observes = looks or (call.method in OBSERVING_METHODS and rest == HEALTH_PATH)
        try:
            return self._serve(job, snapshot, never_swap=looks or snapshot.ignores(rest))
        except NotReady:
            if job.watches:
                return forward.come_back_later()
            raise

    def handle_props(self, call: Call, snapshot: Snapshot) -> Answer:
        """Answer ``/props?model=``, for which a model is loaded only where ``autoload`` says so.

        Blocks as ``handle``, and raises the same.
        """
        autoload = parse_qs(call.query).get("autoload", [""])[0]
        job = Job(call, intake.take_in_query(call, snapshot))
        return self._serve(job, snapshot, never_swap=not is_true_word(autoload))

    def _take_in(
        self, take_in: Callable[[Call, Snapshot], Work], call: Call, snapshot: Snapshot
    ) -> Work:
        """Return the work of *call*; one that cannot be taken in is on record as well."""
        try:
            return take_in(call, snapshot)
        except LlmsnapError as error:
            self._begin(call, None, []).finish(error)
            raise

    def _serve(self, job: Job, snapshot: Snapshot, *, never_swap: bool = False) -> Answer:
        """Serve *job*, which is closed here when that fails, else by the answer's body."""
        call = job.call
        try:
            call.requested = job.work.requested
            route = snapshot.names.resolve(call.requested, call.key.may_use)
            call.presence.open(job.client_left)
            if isinstance(route, LocalRoute):
                answer = self._serve_local(job, snapshot, route, never_swap=never_swap)
            else:
                answer = self._serve_peer(job, snapshot, route)
        except LlmsnapError as error:
            self._fail(job, error)
            raise
        except BaseException:
            self._fail(job, LlmsnapError("internal error"))
            raise
        policy = _policy(job, route)
        if policy and answer.status != 101:
            answer.headers = sandboxed(answer.headers, policy)
        return answer

    def _fail(self, job: Job, error: LlmsnapError) -> None:
        if not (job.watches and isinstance(error, NotReady)):
            self._record(job)
        job.close(error)

    def _meanwhile(self, job: Job) -> None:
        self._record(job)
        self._chores()

    def _record(self, job: Job, peer: str | None = None) -> None:
        """Have *job* on record, as far as it is known by now. Never switches."""
        if job.tap is None:
            call = job.call
            tap = job.tap = self._begin(call, job.work, _shown(job), peer)
            tap.on_cancel = job.cancel
            if job.lease is not None:
                tap.granted(call.queue_s, call.load_s, call.swap_id)

    # --- models of our own ---------------------------------------------------------------------

    def _serve_local(
        self, job: Job, snapshot: Snapshot, route: LocalRoute, *, never_swap: bool
    ) -> Answer:
        model, target, call = route.model, snapshot.target(route.model), job.call
        call.served = model.id
        job.work.adapt(target, target.model_name)
        call.stream = job.work.stream
        job.headers, job.secret_headers = _headers(job, target), target.rule.secret
        ignored = model.ignore_websockets and tunnel.is_wanted(call)
        job.watches = job.watches and model.ignore_streams
        max_wait_s = _max_wait_s(call.header("HTTP_X_MAX_WAIT"))
        never_swap = (
            never_swap
            or ignored
            or job.watches
            or not call.may_load
            or call.header("HTTP_X_SWAP").strip().lower() == "never"
        )

        def request() -> Ticket:
            return self._queue.request(model.id, max_wait_s=max_wait_s, never_swap=never_swap)

        def ask() -> Ticket:
            ticket = request()
            may_try = ticket.has_failed and self._queue.recheck_files(model.id)
            return request() if may_try else ticket

        lease = self._queue.observe(model.id) if job.observes else None
        patience_s = job.patience_s = _patience_s(job, model.keepalive_while_loading)
        while True:
            if lease is None:
                ticket = ask()
                frames = self._wait(job, route, ticket)
                if frames is not None:
                    return self._loading(job, ticket, frames, target, ask, patience_s)
                lease = _take(job, ticket)
            exchange = self._exchange_of(job, lease, target, patience_s)
            if exchange is not None:
                break
            lease = None
        if not exchange.status:  # silent
            return self._loading(job, None, Comments(patience_s), target, ask, patience_s)
        _loosen(job, exchange, model, ignored=ignored)
        return forward.answer(job, exchange)

    def _wait(self, job: Job, route: LocalRoute, ticket: Ticket) -> Frames | None:
        """Wait until *ticket* is settled, or return what to show while it is not. Blocks."""
        if ticket.is_settled:
            return None
        self._record(job)
        job.wait_for(ticket)
        frames = self._frames(job, route, ticket)
        if frames is None:
            ticket.wait()
        return frames

    def _exchange_of(
        self, job: Job, lease: Lease, target: Target, patience_s: float
    ) -> Exchange | None:
        """Return what brings the answer; None if the server ended first and may be loaded again."""
        with suppress(ServerEnded):
            return self._send(job, lease, target, patience_s)
        return None

    def _frames(self, job: Job, route: LocalRoute, ticket: Ticket) -> Frames | None:
        """Return what to show while *ticket* waits; None when the wait is over, or goes silent."""
        model, call = route.model, job.call
        if not _gets_events(job):
            return None
        if model.send_loading_state and versioned(call.path) == LOADING_STATE_PATH:
            return LoadingState(model.id, call.id, self._chance)
        if model.keepalive_while_loading and not ticket.wait(COMMENT_EVERY_S):
            return Comments(COMMENT_EVERY_S)
        return None

    def _loading(
        self,
        job: Job,
        ticket: Ticket | None,
        frames: Frames,
        target: Target,
        ask: Callable[[], Ticket],
        patience_s: float,
    ) -> Answer:
        """Return the answer that begins while *job* waits for *ticket*, or for its server."""

        def send(lease: Lease) -> bool:
            _note_wait(job, lease)
            return self._send(job, lease, target, patience_s).status != 0

        def wait_head() -> bool:
            lease, exchange = job.lease, job.exchange
            if lease is None or exchange is None:
                raise UpstreamError("the exchange with the model is over")
            wait = partial(forward.wait_head, job, exchange, patience_s)
            return self._hears(job, lease, exchange, wait)

        def again() -> Ticket:
            ticket = ask()
            job.wait_for(ticket)
            return ticket

        # The head of our answer goes out before the upstream could say how it encodes its own.
        job.headers = [one for one in job.headers if one[0] != "Accept-Encoding"]
        waiting = Waiting(ticket, self._queue.position, again, send)
        return LoadingStream(job, waiting, frames, wait_head, forward.last_words(job.call)).answer()

    def _send(self, job: Job, lease: Lease, target: Target, patience_s: float) -> Exchange:
        """Send over a connection to the model of *lease*, and wait for the answer's head.

        After *patience_s* without one, return nevertheless. Raises: ServerEnded when the model has
        to be loaded again; then nothing is held.
        """
        job.lease = lease
        try:
            address = self._servers.address_of(lease.model_id)
        except NotReady as error:  # it ended since the lease was granted
            raise self._ended(job, ChildExited(str(error)), error) from error
        exchange = Exchange(self._pool, address, target.limits)
        job.hold(lease, exchange)
        meanwhile = partial(self._meanwhile, job)
        wait = partial(forward.send, job, exchange, meanwhile, patience_s)
        self._hears(job, lease, exchange, wait)
        return exchange

    def _hears(self, job: Job, lease: Lease, exchange: Exchange, wait: Callable[[], bool]) -> bool:
        """Return whether *wait* brought the head of the answer. Raises: as ``_send``."""
        try:
            return wait()
        except Unreachable as error:
            end = self._servers.wait_end(lease.model_id, exchange.address, EXIT_LIMIT_S)
            if end is None or (exchange.was_sent and not forward.is_resendable(job)):
                raise
            raise self._ended(job, end, error) from error

    def _ended(self, job: Job, end: ChildExited, error: LlmsnapError) -> LlmsnapError:
        """Return what to raise when the server of *job*'s model has ended: once it goes on."""
        if job.interrupted is not None:
            return job.interrupted
        if job.asked_again:
            what = f"this request was sent twice, and each time {end}"
            return ChildExited(what, detail=end.detail)
        job.asked_again = True
        job.let_go()
        call = job.call
        ids = {"request_id": call.id, "swap_id": call.swap_id}
        log.warning("<%s> ended before it answered: loading it again", call.served, extra=ids)
        return ServerEnded(str(error))

    # --- peers ---------------------------------------------------------------------------------

    def _serve_peer(self, job: Job, snapshot: Snapshot, route: PeerRoute) -> Answer:
        """Ask the first peer; the next one only when nothing was sent to it."""
        peers = (route.peer, *route.others)
        keeps_alive = snapshot.config.keepalive_while_loading
        for peer in peers:
            target, address = snapshot.peer(peer)
            exchange = Exchange(self._pool, address, target.limits, keeps_chunked=True)
            try:
                has_come = self._ask_peer(job, exchange, peer.id, target, route, keeps_alive)
            except UpstreamError as error:
                exchange.close()
                if exchange.was_sent or peer is peers[-1]:
                    raise _of_peer(error) from error
                ids = {"request_id": job.call.id}
                log.warning("peer %s: %s; trying the next one", peer.id, error, extra=ids)
            else:
                if has_come:
                    return forward.answer(job, exchange)
                return self._silent_peer(job, exchange)
        raise UnknownModel(f'model not found: "{route.requested}"; no peer offers it')

    def _ask_peer(
        self,
        job: Job,
        exchange: Exchange,
        peer_id: str,
        target: Target,
        route: PeerRoute,
        keeps_alive: bool,
    ) -> bool:
        """Send to one peer, under its name for the model; return whether its answer has begun."""
        call = job.call
        call.served = peer_id
        job.work.adapt(target, route.upstream_name)
        call.stream = job.work.stream
        job.headers, job.secret_headers = _headers(job, target), target.rule.secret
        if job.tap is None:
            self._record(job, peer_id)
        else:
            job.tap.facts.peer = peer_id
        job.ask(exchange)
        job.patience_s = _patience_s(job, keeps_alive)
        return forward.send(job, exchange, self._chores, job.patience_s)

    def _silent_peer(self, job: Job, exchange: Exchange) -> Answer:
        """Return the answer that begins while a peer is at work on its own."""

        def wait_head() -> bool:
            try:
                return forward.wait_head(job, exchange, COMMENT_EVERY_S)
            except UpstreamError as error:
                raise _of_peer(error) from error

        comments, words = Comments(COMMENT_EVERY_S), forward.last_words(job.call)
        return LoadingStream(job, None, comments, wait_head, words).answer()

    # --- records -------------------------------------------------------------------------------

    def _begin(
        self,
        call: Call,
        work: Work | None,
        headers: Headers,
        peer: str | None = None,
    ) -> Tap:
        """Return the tap of a request that is now known to the recorder."""
        body = work.held() if work is not None else b""
        facts = RequestFacts(
            request_id=call.id,
            path=work.path.partition("?")[0] if work is not None else call.path,
            requested=call.requested,
            model_id=call.requested if peer else call.served or call.requested,
            peer=peer,
            method=call.method,
            query=call.query,
            key_name=call.key.name or None,
            client=call.client_ip,
            stream=call.stream,
            headers=headers,
            body_bytes=work.length or 0 if work is not None else 0,
            arrived=call.began,
        )
        return self._recorder.begin(facts, body)


def _take(job: Job, ticket: Ticket) -> Lease:
    """Return the lease, noting how long it took. Raises: why there is none."""
    try:
        lease = ticket.take()
    except LlmsnapError as error:
        raise job.reason(error) from error
    _note_wait(job, lease)
    return lease


def _note_wait(job: Job, lease: Lease) -> None:
    call = job.call
    call.queue_s += lease.waited_s - lease.load_s
    call.load_s += lease.load_s
    call.swap_id = lease.swap_id
    if job.tap is not None:
        job.tap.granted(call.queue_s, call.load_s, call.swap_id)


def _loosen(job: Job, exchange: Exchange, model: ModelConfig, *, ignored: bool) -> None:
    """Stop keeping *model* for an answer that stays open, where its configuration says so."""
    after_s = 0.0 if ignored and exchange.status == 101 else None
    if model.ignore_streams and after_s is None:
        after_s = forward.stays_open(job, exchange)
    job.loosen(after_s)


def _gets_events(job: Job) -> bool:
    """Whether whatever *job*'s client is answered with can be told by events."""
    call = job.call
    return call.stream and not job.work.prefix and streams_events(call.path)


def _patience_s(job: Job, keeps_alive: bool) -> float:
    """Return after how much silence of its server *job*'s client gets comments; 0: never."""
    return COMMENT_EVERY_S if keeps_alive and _gets_events(job) else 0.0


def _headers(job: Job, target: Target) -> Headers:
    call = job.call
    work = job.work
    headers = _passing(call, target)
    if work.drops:
        headers = [header for header in headers if header[0].lower() not in work.drops]
    return [*headers, *work.adds, (forward.REQUEST_ID, call.id)]


def _shown(job: Job) -> Headers:
    """Return the headers of *job*'s request as records and captures may have them."""
    secret = job.secret_headers
    if not secret:
        return job.headers
    return [(name, REDACTED if name.lower() in secret else value) for name, value in job.headers]


def _passing(call: Call, target: Target) -> Headers:
    """Return the client's headers that pass on to *target*."""
    rule = replace(target.rule, upgrade=True) if tunnel.is_wanted(call) else target.rule
    return request_headers(call.headers(), rule, call.remote_ip)


def _policy(job: Job, route: Route) -> str:
    """Return what keeps an answer from acting in our origin as a page; "" lets it.

    Only a server of our own, below its own path, has pages worth running.
    """
    if not job.work.prefix or not isinstance(route, LocalRoute):
        return SANDBOX
    wanted = route.model.sandbox
    return PAGE_SANDBOX if (not job.call.trusts_pages if wanted is None else wanted) else ""


def _of_peer(error: UpstreamError) -> UpstreamError:
    return type(error)(f"peer proxy error: {error}")


def _max_wait_s(header: str) -> float | None:
    """The seconds of an X-Max-Wait header, None without one. Raises: BadRequest."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise BadRequest(f"X-Max-Wait must be a number of seconds, not {header!r}")
    return seconds
