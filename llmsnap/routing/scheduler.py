"""The scheduler: who is served, who waits, and which models come and go. Pure.

No greenlets, no I/O, no clock of its own: ``handle(event, now)`` returns what is to be done. The
rules live in the parts it is made of: ``admission`` (who may wait), ``turns`` (which swaps begin,
by one of the policies ``fair`` and ``fifo``), ``progress`` (what the driver reports), ``closings``
(unload, sleep, idle clocks), ``changes`` (reload, shutdown) and ``sponsors`` (loads that no
request asked for). They share one ``desk``, which holds all state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmsnap.models import State
from llmsnap.routing import outlook, views
from llmsnap.routing.admission import Admission
from llmsnap.routing.changes import Changes
from llmsnap.routing.closings import Closings
from llmsnap.routing.desk import Desk, TimerKind
from llmsnap.routing.effects import Effect, Grant, WakeMeAt
from llmsnap.routing.ledger import Entry
from llmsnap.routing.messages import (
    CheckFailed,
    ClientGone,
    ConfigChanged,
    Event,
    Exited,
    FilesChanged,
    Idled,
    LeaseReturned,
    Load,
    LoadAborted,
    Loaded,
    LoadFailed,
    Preload,
    PutToSleep,
    Request,
    Shutdown,
    Tick,
    Unload,
)
from llmsnap.routing.progress import Progress
from llmsnap.routing.rules import Options
from llmsnap.routing.sponsors import Sponsors
from llmsnap.routing.turns import Turns

Handler = Callable[[Any], None]


class Scheduler:
    """Decides. Its methods never switch greenlets, and raise for no event whatever."""

    def __init__(self, options: Options | None = None) -> None:
        desk = Desk(options or Options())
        turns = Turns(desk)
        self._desk = desk
        self._turns = turns
        self._admission = Admission(desk)
        self._progress = Progress(desk, turns)
        self._closings = Closings(desk, turns)
        self._sponsors = Sponsors(desk)
        self._changes = Changes(desk, turns, self._closings, self._sponsors)
        self._wake_at: float | None = None
        self._handlers = self._bind_handlers()
        self._timers = self._bind_timers()

    def __repr__(self) -> str:
        desk = self._desk
        return f"<Scheduler {len(desk.entries)} models, {len(desk.tickets)} waiting>"

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in *event* and return what is to be done, in order.

        A request that is granted at once, and a lease that comes back while nobody waits, cost
        the same however many models and waiters there are.
        """
        desk = self._desk
        desk.now = now
        out: list[Effect] = []
        desk.out = out
        if type(event) is Request:
            settled = self._request(event)
        elif type(event) is LeaseReturned:
            settled = self._lease_returned(event)
        else:
            settled = False
            self._handlers[type(event)](event)
        if not settled:
            self._settle()
        return out

    def count_from(self, number: int) -> None:
        """Number swaps from *number* on: those of earlier runs are kept, and keep their ids."""
        self._desk.count_from(number)

    @property
    def first_number(self) -> int:
        """The number the next swap gets, if nothing else is numbered before."""
        return self._desk.last_number + 1

    # --- what people see -------------------------------------------------------------------

    def is_ready(self, model_id: str) -> bool:
        """Whether the server of *model_id* answers requests now."""
        entry = self._desk.entries.get(model_id)
        return entry is not None and entry.state is State.READY

    def snapshot(self, now: float) -> list[views.ModelView]:
        """Return every model's state, load and outlook, by id."""
        self._desk.now = now
        return [views.view(self._desk, entry) for entry in self._entries()]

    def position(self, ticket: int) -> int | None:
        """Return a waiting request's place in its model's queue, from 1; None: it does not wait."""
        return views.position(self._desk, ticket)

    def eta_s(self, model_id: str, now: float) -> float | None:
        """Estimate the seconds until the model may serve; None: no such model."""
        self._desk.now = now
        entry = self._desk.entries.get(model_id)
        return None if entry is None else outlook.eta_s(self._desk, entry)

    def explain(self, model_id: str, now: float) -> str:
        """Say what requests for the model wait for: "A is serving 1 request for 61 min"."""
        self._desk.now = now
        entry = self._desk.entries.get(model_id)
        return "" if entry is None else outlook.explain(self._desk, entry)

    def _entries(self) -> list[Entry]:
        return [entry for _, entry in sorted(self._desk.entries.items())]

    # --- the hot path: True when nothing else can follow -----------------------------------

    def _request(self, event: Request) -> bool:
        desk = self._desk
        entry = desk.entries.get(event.model_id)
        if (
            entry is not None
            and entry.open
            and not entry.waiters
            and len(entry.leases) < entry.limit
        ):
            entry.leases[event.ticket] = desk.now
            desk.out.append(Grant(event.ticket, event.model_id))
            return True
        self._admission.admit(event)
        return False

    def _lease_returned(self, event: LeaseReturned) -> bool:
        desk = self._desk
        entry = desk.entries.get(event.model_id)
        if entry is None or entry.leases.pop(event.ticket, None) is None:
            return True
        if entry.claim is not None:
            entry.claim.settle((event.ticket,))
        if entry.waiters:
            desk.fill(entry)
        if not entry.leases:
            return self._drained(entry)
        return True

    def _drained(self, entry: Entry) -> bool:
        """Note that the last request in flight is over."""
        desk = self._desk
        entry.idle_since = desk.now
        settled = True
        if not entry.idle_armed:
            desk.arm_idle(entry)
            settled = not entry.idle_armed
        if entry.closing is not None:
            self._closings.advance(entry)
        if entry.claim is not None or entry.model_id in desk.watched:
            desk.dirty = True
        return settled and not desk.dirty and not entry.removed

    # --- all the rest ----------------------------------------------------------------------

    def _settle(self) -> None:
        """Begin what may begin now, and set the timer."""
        desk = self._desk
        self._sponsors.go_on()
        while desk.dirty:
            desk.dirty = False
            self._turns.decide()
            self._sponsors.go_on()
        self._changes.finish()
        at = desk.timers.next_at()
        if at != self._wake_at:
            self._wake_at = at
            desk.out.append(WakeMeAt(at))

    def _bind_handlers(self) -> dict[type[Any], Handler]:
        return {
            ClientGone: lambda event: self._admission.leave(event.ticket),
            Idled: self._idled,
            Loaded: self._loaded,
            LoadFailed: self._load_failed,
            LoadAborted: self._load_aborted,
            CheckFailed: self._progress.check_failed,
            Exited: self._exited,
            FilesChanged: self._progress.files_changed,
            Unload: self._closings.unload,
            PutToSleep: self._closings.sleep,
            Load: self._sponsors.load,
            Preload: self._sponsors.preload,
            ConfigChanged: self._changes.configure,
            Shutdown: self._changes.shut_down,
            Tick: self._tick,
        }

    def _bind_timers(self) -> dict[TimerKind, Handler]:
        return {
            "queue": self._admission.expire,
            "load": self._sponsors.expire_load,
            "preload": self._sponsors.expire_preload,
            "idle": self._closings.expire,
            "due": self._look_again,
            "reopen": self._turns.reopen,
            "drain": self._changes.cut,
        }

    def _tick(self, _event: Tick) -> None:
        desk = self._desk
        self._wake_at = None
        for kind, key in desk.timers.pop_due(desk.now):
            self._timers[kind](key)

    def _look_again(self, _model_id: str) -> None:
        self._desk.dirty = True

    def _idled(self, event: Idled) -> None:
        swap = self._desk.swaps.get(event.work)
        if swap is None:
            self._closings.idled(event)
            return
        victim = self._progress.victim_left(swap, event)
        if victim is not None:
            self._closings.went(victim, event.error)

    def _loaded(self, event: Loaded) -> None:
        self._close_on(self._progress.loaded(event))

    def _load_failed(self, event: LoadFailed) -> None:
        self._close_on(self._progress.failed(event), event.error)

    def _load_aborted(self, event: LoadAborted) -> None:
        self._close_on(self._progress.aborted(event))

    def _exited(self, event: Exited) -> None:
        entry = self._progress.exited(event)
        if entry is not None:
            self._closings.went(entry, event.error)

    def _close_on(self, entries: list[Entry], error: Exception | None = None) -> None:
        """Go on with stopping *entries*, or putting them to sleep, where somebody wants that."""
        for entry in entries:
            self._closings.went(entry, error)
