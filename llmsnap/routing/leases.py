"""A request's way through the queue: a Ticket while it waits, a Lease while it is served."""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event

from llmsnap.errors import ClientGone, LlmsnapError, ProcessError


class Lease:
    """The right to send one request to a ready model; ``close()`` gives it back.

    A loose one has been given back while the answer goes on: it does not keep the model, and is cut
    when the model goes.
    """

    __slots__ = (
        "_closed",
        "_cut_error",
        "_give_back",
        "is_loose",
        "load_s",
        "model_id",
        "on_cut",
        "on_end",
        "swap_id",
        "ticket",
        "waited_s",
    )

    def __init__(self, ticket: int, model_id: str, give_back: Callable[[Lease], None]) -> None:
        self.ticket = ticket
        self.model_id = model_id
        self.waited_s = 0.0
        """How long the request waited in all, loading included."""
        self.load_s = 0.0
        """How much of that was the load it waited for."""
        self.swap_id: int | None = None
        """The swap that made the model ready for it."""
        self.on_cut: Callable[[], None] | None = None
        """Called, without switching greenlets, when the request is to be ended early."""
        self.on_end: Callable[[Lease], None] | None = None
        """Called when a loose one ends."""
        self.is_loose = False
        self._give_back = give_back
        self._closed = False
        self._cut_error: LlmsnapError | None = None

    def __repr__(self) -> str:
        return f"<Lease {self.ticket} on {self.model_id}{' closed' if self._closed else ''}>"

    def cut(self, error: LlmsnapError) -> None:
        """End the request early with *error*. Never switches."""
        self._cut_error = error
        if self.on_cut is not None:
            self.on_cut()

    @property
    def cut_error(self) -> LlmsnapError | None:
        """Why the request was ended by us; None: it was not."""
        return self._cut_error

    def loosen(self) -> None:
        """Give the slot back before the answer ends. Never switches; the first call counts."""
        if not self._closed and not self.is_loose:
            self.is_loose = True
            self._give_back(self)

    def close(self) -> None:
        """Give the slot back. Never switches; the first call counts."""
        if self._closed:
            return
        self._closed = True
        if not self.is_loose:
            self._give_back(self)
        elif self.on_end is not None:
            self.on_end(self)


class Ticket:
    """One request that waits, or has waited, for its model.

    *swap_id* and *load_s* say which swap it waited for in vain, and how long for the load; one that
    was granted finds them on its lease.
    """

    __slots__ = (
        "_cancel",
        "_error",
        "_lease",
        "_settled",
        "load_s",
        "model_id",
        "number",
        "swap_id",
    )

    def __init__(self, number: int, model_id: str, cancel: Callable[[Ticket], None]) -> None:
        self.number = number
        self.model_id = model_id
        self.swap_id: int | None = None
        self.load_s = 0.0
        self._cancel = cancel
        self._lease: Lease | None = None
        self._error: LlmsnapError | None = None
        self._settled: Event | None = None

    def __repr__(self) -> str:
        state = "granted" if self._lease else "refused" if self._error else "waiting"
        return f"<Ticket {self.number} for {self.model_id}, {state}>"

    @property
    def is_settled(self) -> bool:
        """Whether it was granted, refused or cancelled."""
        return self._lease is not None or self._error is not None

    @property
    def has_failed(self) -> bool:
        """Whether it was refused because its model fails."""
        return self._error is not None and self._error.code == ProcessError.code

    def settle(self, outcome: Lease | LlmsnapError) -> None:
        """Grant or refuse, once. Never switches."""
        if isinstance(outcome, Lease):
            self._lease = outcome
        else:
            self._error = outcome
        if self._settled is not None:
            self._settled.set()

    def wait(self, limit_s: float | None = None) -> bool:
        """Wait until it is settled, *limit_s* at most (None: the queue's own deadline)."""
        if self.is_settled:
            return True
        if self._settled is None:
            self._settled = Event()
        return self._settled.wait(limit_s)

    def take(self) -> Lease:
        """Return the lease, which the caller owns from now on. Raises: why it was refused."""
        if self._error is not None:
            raise self._error
        if self._lease is None:
            raise RuntimeError(f"{self!r} is not settled")
        lease, self._lease, self._error = self._lease, None, ClientGone("taken")
        return lease

    def cancel(self) -> None:
        """The client left: stop waiting, or give back what was granted. Never switches."""
        lease = self._lease
        if self.is_settled and lease is None:
            return
        self._lease = None
        self.settle(ClientGone("the client left"))
        if lease is not None:
            lease.close()
        else:
            self._cancel(self)
