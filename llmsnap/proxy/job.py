"""One request under way, and all that it holds: work, ticket, lease, exchange, tap."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

from llmsnap.errors import ClientGone, Draining, LlmsnapError
from llmsnap.metrics.tap import Tap
from llmsnap.proxy.call import Call
from llmsnap.proxy.client import Exchange
from llmsnap.proxy.intake import Work
from llmsnap.routing.leases import Lease, Ticket
from llmsnap.wire.headers import Headers


class Job:
    """Owned by the greenlet that serves the request; ``close`` settles everything, once.

    ``interrupt`` may come from anywhere (the client left, the model was unloaded, somebody
    cancelled) and wakes whatever the greenlet waits for.
    """

    __slots__ = (
        "_interrupt",
        "_timer",
        "_waiting",
        "asked_again",
        "call",
        "closed",
        "exchange",
        "headers",
        "interrupted",
        "lease",
        "observes",
        "patience_s",
        "secret_headers",
        "tap",
        "watches",
        "work",
    )

    def __init__(self, call: Call, work: Work) -> None:
        self.call = call
        self.work = work
        self.headers: Headers = []
        """What the upstream gets."""
        self.secret_headers: frozenset[str] = frozenset()
        """Names, in lower case, of those whose values stand in the configuration."""
        self.tap: Tap | None = None
        self.lease: Lease | None = None
        self.exchange: Exchange | None = None
        self.interrupted: LlmsnapError | None = None
        self.closed = False
        self.asked_again = False
        """Whether its model was loaded again for it, which is done once."""
        self.observes = False
        """Whether the request only looks at the server: it takes no slot and keeps no model."""
        self.watches = False
        """Whether its client only listens, and comes back when the answer ends."""
        self.patience_s = 0.0
        """After how much silence of its server its client gets a comment; 0: never."""
        self._timer: Any = None
        self._interrupt: Callable[[], None] | None = None
        self._waiting: tuple[Ticket, float] | None = None

    def __repr__(self) -> str:
        return f"<Job {self.call.id} for {self.call.requested}{' closed' if self.closed else ''}>"

    def interrupt(self, error: LlmsnapError) -> None:
        """End the request early with *error*; the first one counts. Never switches."""
        if self.interrupted is None:
            self.interrupted = error
            if self._interrupt is not None:
                self._interrupt()

    def client_left(self) -> None:
        """End the request because nobody waits for its answer. Never switches."""
        self.interrupt(ClientGone("the client left"))

    def cancel(self) -> None:
        """End the request because somebody asked for it. Never switches."""
        self.interrupt(Draining("the request was cancelled"))

    def react(self, do: Callable[[], None]) -> None:
        """Have an interruption call *do*, at once if it has come already. Never switches."""
        self._interrupt = do
        if self.interrupted is not None:
            do()

    def wait_for(self, ticket: Ticket) -> None:
        """Have an interruption cancel *ticket*. Never switches."""
        self._waiting = ticket, time.monotonic()
        self.react(ticket.cancel)

    def hold(self, lease: Lease, exchange: Exchange) -> None:
        """Own *lease*; have an interruption, also by the lease, abort *exchange*. No switch."""
        self.lease, self.exchange = lease, exchange
        lease.on_cut = self._cut
        self.react(exchange.abort)

    def loosen(self, after_s: float | None) -> None:
        """Stop keeping the model if the answer still goes on in *after_s* (None: keep it).

        Never switches.
        """
        if self.lease is None or after_s is None:
            return
        if after_s <= 0:
            self.lease.loosen()
        else:
            self._timer = gevent.get_hub().loop.timer(after_s, ref=False)
            self._timer.start(self.lease.loosen)

    def let_go(self) -> None:
        """Give back lease and exchange, to wait for others. Never switches."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        if self.exchange is not None:
            self.exchange.close()
        if self.lease is not None:
            self.lease.on_cut = None
            self.lease.close()
        self.exchange = self.lease = None

    def ask(self, exchange: Exchange) -> None:
        """Have an interruption abort *exchange*, for which no lease is needed. No switch."""
        self.exchange = exchange
        self.react(exchange.abort)

    def reason(self, error: LlmsnapError) -> LlmsnapError:
        """Return why the request really ended, when *error* is what an interruption looks like."""
        return self.interrupted or error

    def let_go_of_body(self) -> None:
        """Free what the body takes: the answer has begun, nothing is sent again. Never switches."""
        self.work.close()
        self.call.held.close()

    def close(self, error: LlmsnapError | None = None) -> None:
        """Give everything back; *error* is why the request failed. Idempotent, never switches."""
        if self.closed:
            return
        self.closed = True
        self._interrupt = None
        self.call.presence.close()
        if self.lease is None and self._waiting is not None:
            self._note_vain_wait(*self._waiting)
        self.let_go()
        self.work.close()
        if self.tap is not None:
            self.tap.on_cancel = None  # nothing refers to us any more: no work for the collector
            self.tap.finish(error, client_left=isinstance(error, ClientGone))

    def _note_vain_wait(self, ticket: Ticket, since: float) -> None:
        """Say how long the request waited, and for which swap, though nothing came of it."""
        waited_s = time.monotonic() - since
        load_s = min(ticket.load_s, waited_s)
        self.call.queue_s, self.call.load_s = waited_s - load_s, load_s
        self.call.swap_id = ticket.swap_id
        if self.tap is not None:
            self.tap.granted(self.call.queue_s, load_s, ticket.swap_id)

    def _cut(self) -> None:
        if self.lease is not None and self.lease.cut_error is not None:
            self.interrupt(self.lease.cut_error)
