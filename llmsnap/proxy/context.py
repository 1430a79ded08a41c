"""One request in flight, from admission to its record: its outcome so far and its resources.

Access log, response observer and activity record read from it, so that each fact is stored once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

from llmsnap.errors import ClientGone, Draining, LlmsnapError, UpstreamBroke
from llmsnap.http import REDACTED, Headers
from llmsnap.proxy.client import Exchange, UpstreamTimeouts
from llmsnap.proxy.payload import UNPARSED, Payload
from llmsnap.proxy.request import Request
from llmsnap.routing import Lease, Selection, Ticket
from llmsnap.telemetry import ResponseObserver


class RequestContext:
    """Owned by the greenlet that serves the request; ``close`` releases everything, once.

    ``interrupt`` may be called from any greenlet (the client disconnected, the model was unloaded,
    an admin cancelled) and ends the wait of the serving greenlet.
    """

    model_id = ""
    """The local model that serves it."""
    peer: str | None = None
    """The peer that serves it."""
    stream = False
    """Whether the client requested a stream."""
    granted = False
    """Whether it has, or had, a lease of a local model."""
    queue_s = 0.0
    """How long it waited for other requests and models."""
    is_recorded = True
    """Whether it is in the activity, and shown while it is in flight."""
    profile = ""
    """The profile that gave the client's name another meaning."""
    priority = 0
    """That of its model among waiting ones."""
    load_s = 0.0
    """How long it waited for its model to load or wake."""
    swap_id: int | None = None
    """The swap it waited for."""
    first_byte_at: float | None = None
    """When the first byte of the upstream's body arrived; monotonic."""
    status = 0
    """Status sent to the client; of a stream that failed midway, that of the failure."""

    secret_headers: frozenset[str] = frozenset()
    """Names, in lower case, of those *headers* whose values come from the configuration."""
    observer: ResponseObserver | None = None
    lease: Lease | None = None
    exchange: Exchange | None = None
    interrupted: LlmsnapError | None = None
    closed = False
    was_resent = False
    """Whether its model was loaded again for it, which happens at most once."""
    timeouts = UpstreamTimeouts()
    """Of what serves it."""
    max_wait_s: float | None = None
    """Limit in seconds of the wait for its model; None: that of the configuration."""
    never_swap = False
    """Whether it never causes a model to load."""
    observes = False
    """Whether the request is a probe: it takes no slot and does not keep the model loaded."""
    watches = False
    """Whether its client is an event source, which reconnects when the response ends."""
    takes_plain = False
    """Whether its answer must come without a Content-Encoding, since its head has been sent."""
    selection: Selection | None = None
    """Its way through the targets of a selector, if it names one."""
    comment_every_s = 0.0
    """Seconds of silence of its server after which its client gets a comment; 0: never."""

    explain_break: Callable[[RequestContext, UpstreamBroke], LlmsnapError] | None = None
    """Returns the error of a response that broke off, with how its server ended."""

    _holds_body = True
    _timer: Any = None
    _interrupt: Callable[[], None] | None = None
    _waiting: tuple[Ticket, float] | None = None

    def __init__(self, request: Request) -> None:
        self.request = request
        self.payload: Payload = UNPARSED
        """Its body and the path to forward."""
        self.headers: Headers = []
        """Headers for the upstream."""

    def __repr__(self) -> str:
        ended = " closed" if self.closed else ""
        return f"<RequestContext {self.request.id} for {self.request.requested}{ended}>"

    # --- for logs and records ------------------------------------------------------------------

    @property
    def served_by(self) -> str:
        """The model or peer that serves it, "" before that is known."""
        return self.peer or self.model_id

    @property
    def selector_id(self) -> str:
        """The selector that chose what serves it, "" for none."""
        return self.selection.route.selector.id if self.selection is not None else ""

    @property
    def shown_model(self) -> str:
        """The model it is counted for; a peer's model under the name that was resolved."""
        return self.payload.requested if self.peer else self.model_id or self.request.requested

    @property
    def sent_path(self) -> str:
        """The forwarded path, without its query; the client's before that is known."""
        payload = self.payload
        return self.request.path if payload is UNPARSED else payload.path.partition("?")[0]

    @property
    def shown_headers(self) -> Headers:
        """Headers for the upstream, with values from the configuration masked."""
        secret = self.secret_headers
        if not secret:
            return self.headers
        return [
            (name, REDACTED if name.lower() in secret else value) for name, value in self.headers
        ]

    def authorize(self, key: str) -> None:
        """Have the upstream get *key*, in place of that of an earlier run. Never switches."""
        kept = [one for one in self.headers if one[0] not in {"Authorization", "X-Api-Key"}]
        self.headers = [*kept, ("Authorization", f"Bearer {key}"), ("X-Api-Key", key)]

    @property
    def log_ids(self) -> dict[str, Any]:
        """Its ids for log lines: ``extra=context.log_ids``."""
        return {"request_id": self.request.id, "swap_id": self.swap_id}

    @property
    def ticket_number(self) -> int | None:
        """The number of the ticket it waits with, or waited with last; None before the first."""
        return None if self._waiting is None else self._waiting[0].number

    def note_wait(self, lease: Lease) -> None:
        """Add the waiting times of *lease*. Never switches."""
        self.granted = True
        self.queue_s += lease.waited_s - lease.load_s
        self.load_s += lease.load_s
        self.swap_id = lease.swap_id

    # --- interruption --------------------------------------------------------------------------

    def interrupt(self, error: LlmsnapError) -> None:
        """End the request early with *error*; the first call wins. Never switches."""
        if self.interrupted is None:
            self.interrupted = error
            if self._interrupt is not None:
                self._interrupt()

    def client_left(self) -> None:
        """End the request because its client has disconnected. Never switches."""
        self.interrupt(ClientGone("the client left"))

    def cancel(self) -> None:
        """End the request on behalf of an admin. Never switches."""
        self.interrupt(Draining("the request was cancelled"))

    def on_interrupt(self, do: Callable[[], None]) -> None:
        """Call *do* when the request is interrupted; at once if it already was. Never switches."""
        self._interrupt = do
        if self.interrupted is not None:
            do()

    def reason(self, error: LlmsnapError) -> LlmsnapError:
        """Return the error that interrupted the request, else *error*.

        Blocks briefly where the response broke off, to find out whether the server has ended.
        """
        if self.explain_break is not None and isinstance(error, UpstreamBroke):
            error = self.explain_break(self, error)
        return self.interrupted or error

    # --- resources -----------------------------------------------------------------------------

    def wait_for(self, ticket: Ticket) -> None:
        """Cancel *ticket* when the request is interrupted. Never switches."""
        self._waiting = ticket, time.monotonic()
        self.on_interrupt(ticket.cancel)

    def hold(self, lease: Lease, exchange: Exchange) -> None:
        """Own *lease*; an interruption, also by the lease, aborts *exchange*. Never switches."""
        self.lease, self.exchange = lease, exchange
        lease.on_cut, self._interrupt = self._cut, exchange.abort
        if self.interrupted is not None:
            exchange.abort()

    def abort_on_interrupt(self, exchange: Exchange) -> None:
        """Own *exchange*, which needs no lease; an interruption aborts it. Never switches."""
        self.exchange, self._interrupt = exchange, exchange.abort
        if self.interrupted is not None:
            exchange.abort()

    def loosen(self, after_s: float | None) -> None:
        """Stop keeping the model loaded if the response lasts longer than *after_s* (None: keep).

        Never switches.
        """
        if self.lease is None or after_s is None:
            return
        if after_s <= 0:
            self.lease.loosen()
        else:
            self._timer = gevent.get_hub().loop.timer(after_s, ref=False)
            self._timer.start(self.lease.loosen)

    def release(self) -> None:
        """Release lease and exchange, so that the request can wait for new ones. Never switches."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        if self.exchange is not None:
            self.exchange.close()
        if self.lease is not None:
            self.lease.on_cut = None
            self.lease.close()
        self.exchange = self.lease = None

    @property
    def wait_left_s(self) -> float | None:
        """How long it may still wait for models, of all its targets together; None: any time."""
        if self.max_wait_s is None:
            return None
        return max(0.0, self.max_wait_s - self.queue_s - self.load_s)

    def leave_target(self) -> None:
        """Release everything but the body: another target serves instead. Never switches."""
        if self.lease is None and self._waiting is not None:
            self._note_failed_wait(*self._waiting)
        self._waiting = self._interrupt = None
        self.release()
        self.model_id, self.peer, self.was_resent = "", None, False

    @property
    def can_repeat(self) -> bool:
        """Whether the body is still held, so that the request can be sent once more."""
        return self._holds_body and self.payload.is_kept

    def release_body(self) -> None:
        """Free the body: once the response has begun, it is not sent again. Never switches."""
        self._holds_body = False
        self.payload.close()
        self.request.body_share.close()

    def close(self, error: LlmsnapError | None = None) -> None:
        """Release everything; *error* is why the request failed. Idempotent, never switches."""
        if self.closed:
            return
        self.closed = True
        self._interrupt = None
        self.request.monitor.close()
        if self.lease is None and self._waiting is not None:
            self._note_failed_wait(*self._waiting)
        self.release()
        if self._holds_body:
            self.release_body()
        if self.selection is not None:
            self.selection.close()
        observer, self.observer = self.observer, None  # it refers to this object: a reference cycle
        if observer is not None:
            observer.finish(error, client_left=isinstance(error, ClientGone))

    def _note_failed_wait(self, ticket: Ticket, since: float) -> None:
        """Note the waiting times and the swap of a request that got no lease."""
        waited_s = time.monotonic() - since
        self.granted = True
        load_s = min(ticket.load_s, waited_s)
        self.load_s += load_s
        self.queue_s += waited_s - load_s
        self.swap_id = ticket.swap_id

    def _cut(self) -> None:
        if self.lease is not None and self.lease.cut_error is not None:
            self.interrupt(self.lease.cut_error)
