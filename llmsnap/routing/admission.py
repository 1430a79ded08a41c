"""The queue: which requests may wait, and what the others are told."""

from __future__ import annotations

from llmsnap.models import State
from llmsnap.routing import outlook
from llmsnap.routing.desk import Desk
from llmsnap.routing.effects import Refusal, Refuse
from llmsnap.routing.ledger import Entry, Waiter
from llmsnap.routing.messages import Request

SLOT_RETRY_S = 1.0
"""What a client is told that found every slot of a ready model taken."""


class Admission:
    """Takes in the requests that cannot be granted at once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def admit(self, request: Request) -> None:
        """Let *request* wait, or refuse it with a reason."""
        desk = self._desk
        entry = desk.entries.get(request.model_id)
        if entry is None or entry.removed or desk.shutting_down:
            reason = Refusal.SHUTDOWN if desk.shutting_down else Refusal.UNKNOWN
            state = entry.state if entry else State.STOPPED
            desk.out.append(Refuse(request.ticket, request.model_id, reason, state))
            return
        refusal = self._refusal(entry, request)
        if refusal is None:
            self._enqueue(entry, request)
        else:
            desk.out.append(refusal)

    def leave(self, ticket: int) -> None:
        """Forget a waiting request whose client left."""
        waiter = self._desk.tickets.get(ticket)
        if waiter is not None:
            self._desk.forget(waiter)
            self._desk.dirty = True

    def expire(self, ticket: int) -> None:
        """Refuse a request that waited until its deadline, and say for whom."""
        desk = self._desk
        waiter = desk.tickets.get(ticket)
        if waiter is None:
            return
        why = outlook.explain(desk, waiter.entry)
        retry_after_s = outlook.retry_after_s(desk, waiter.entry)
        desk.refuse(waiter, Refusal.QUEUE_TIMEOUT, why=why, retry_after_s=retry_after_s)
        desk.dirty = True

    def _refusal(self, entry: Entry, request: Request) -> Refuse | None:
        """Return why *request* may not wait for *entry*, None when it may."""
        limit = entry.rules.queue_limit
        if entry.open:
            return _refuse(
                request,
                entry,
                Refusal.TOO_MANY,
                f"all {entry.limit} slots of {entry.model_id} are taken (concurrencyLimit)",
                SLOT_RETRY_S,
            )
        refusal = self._backing_off(entry, request)
        if refusal is not None:
            return refusal
        if request.never_swap:
            reason = Refusal.NOT_READY
        elif request.max_wait_s is not None and request.max_wait_s <= 0:
            reason = Refusal.QUEUE_TIMEOUT
        elif len(entry.waiters) >= limit:
            reason = Refusal.TOO_MANY
        else:
            return None
        # A model that nobody waits for waits for nothing.
        waits = entry.wanted or entry.swap is not None
        why = outlook.explain(self._desk, entry) if waits else ""
        if reason is Refusal.TOO_MANY:
            why = f"{limit} requests wait for {entry.model_id} already (queueLimit); {why}"
        return _refuse(request, entry, reason, why, outlook.retry_after_s(self._desk, entry))

    def _backing_off(self, entry: Entry, request: Request) -> Refuse | None:
        """Return the remembered error while *entry* may not be started again."""
        if entry.swap is not None or entry.state is State.READY or not entry.backoff.failures:
            return None
        wait_s = outlook.backoff_s(self._desk, entry)
        if wait_s <= 0:
            return None
        why = f"{entry.model_id} failed {entry.backoff.failures} times in a row"
        error = entry.backoff.error
        return Refuse(
            request.ticket, entry.model_id, Refusal.FAILED, entry.state, why, 0.0, wait_s, error
        )

    def _enqueue(self, entry: Entry, request: Request) -> None:
        desk = self._desk
        waiter = Waiter(request.ticket, entry, desk.now, desk.next_number())
        if not entry.waiters and entry.state is not State.READY:
            desk.dirty = True
        entry.waiters[waiter.ticket] = desk.tickets[waiter.ticket] = waiter
        desk.wanting[entry.model_id] = entry
        limits = [desk.options.queue_timeout_s] if desk.options.queue_timeout_s > 0 else []
        if request.max_wait_s is not None:
            limits.append(request.max_wait_s)
        if limits:
            desk.timers.set(("queue", waiter.ticket), desk.now + min(limits))


def _refuse(
    request: Request, entry: Entry, reason: Refusal, why: str, retry_after_s: float
) -> Refuse:
    return Refuse(
        request.ticket, entry.model_id, reason, entry.state, why, retry_after_s=retry_after_s
    )
