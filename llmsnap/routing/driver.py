"""Carries out what the scheduler decides: one greenlet per swap, one timer, one loop of effects.

The scheduler is asked and its effects are carried out without a greenlet switch in between; what
takes time runs in tasks of the driver and comes back as a further event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import gevent
from gevent.event import AsyncResult, Event

from llmsnap.errors import (
    ClientGone,
    LlmsnapError,
    LoadAborted,
    ModelLeft,
    NoCapacity,
    OutOfMemory,
    ProcessError,
    in_full,
)
from llmsnap.models import RESIDENT, Process, State, Trigger
from llmsnap.routing import messages as msg
from llmsnap.routing.barrier import Barrier, Hold, Returning
from llmsnap.routing.explain import error_of, error_of_cut, error_of_outcome
from llmsnap.routing.memory import shown_room
from llmsnap.routing.messages import CommandDone, Eviction, StartSwap
from llmsnap.routing.recording import DecisionRecorder, Handles
from llmsnap.routing.residency import Action, LoadKind
from llmsnap.routing.scheduler import Scheduler
from llmsnap.routing.selectors import Standing
from llmsnap.tasks import TaskGroup

# --- tickets and leases ---------------------------------------------------------------------------


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


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pending:
    model_id: str
    result: AsyncResult[None]


class Commands:
    """The commands that are not answered yet, by the number they went out under."""

    def __init__(self, numbers: count[int]) -> None:
        self._numbers = numbers
        self._open: dict[int, _Pending] = {}

    def __repr__(self) -> str:
        return f"<Commands {len(self._open)} open>"

    def begin(self, model_id: str) -> int:
        """Return the number of a new command that concerns *model_id* ("" for all). No switch."""
        number = next(self._numbers)
        self._open[number] = _Pending(model_id, AsyncResult())
        return number

    def is_answered(self, number: int) -> bool:
        """Whether the command is over. Never switches."""
        return self._open[number].result.ready()

    def wait(self, number: int) -> None:
        """Wait until the command is answered. Raises: why it failed.

        Bounded by the limits of what it asked for: a load, a drain, a stop.
        """
        self._open[number].result.get()

    def answer(self, answer: CommandDone) -> None:
        """Settle a command. Never switches."""
        command = self._open.get(answer.command)
        if command is None:
            return
        error = error_of_outcome(command.model_id, answer.outcome, answer.error)
        if error is None:
            command.result.set(None)
        else:
            command.result.set_exception(error)

    def forget(self, number: int) -> None:
        """Forget the command: its caller no longer waits."""
        self._open.pop(number, None)


# --- swaps the driver runs ------------------------------------------------------------------------


@dataclass(slots=True)
class ActiveSwap:
    """A swap from its start to its report.

    *loading_since*: None while it still evicts. *missing*: the memory that was not free when the
    load began all the same; empty: all was.
    """

    effect: StartSwap
    aborted: bool = False
    loading_since: float | None = None
    missing: str = ""

    def begin_loading(self, now: float) -> None:
        """Note that the evictions are over. Raises: LoadAborted when the load was aborted."""
        if self.aborted:
            raise LoadAborted(f"{self.effect.target}: its load was given up")
        self.loading_since = now

    def note_on(self, ticket: Ticket, now: float) -> None:
        """Write on *ticket*, which gets no lease, the swap it waited for in vain."""
        if ticket.model_id == self.effect.target:
            ticket.swap_id = self.effect.work
            ticket.load_s = 0.0 if self.loading_since is None else now - self.loading_since


# --- the driver -----------------------------------------------------------------------------------

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Receives what the driver did; none of these may switch greenlets."""

    def on_swap_started(self, swap: msg.StartSwap) -> None:
        """*swap* begins."""

    def on_swap_finished(self, finished: msg.SwapEnded) -> None:
        """A swap is over."""

    def on_preload_ended(self, ended: msg.PreloadEnded) -> None:
        """One model of the preload list is ready, or is not."""

    def on_faulty(self, model_id: str, fault: str) -> None:
        """A model whose requests failed does not work, and is restarted."""

    def on_waiting(self, model_id: str) -> None:
        """Requests have begun to wait for a model that cannot be loaded at once."""

    def on_yielded(self, yielded: msg.Yielded) -> None:
        """An idle model is about to leave for memory that other programs took."""

    def on_no_room_asleep(self, refused: msg.NoRoomAsleep) -> None:
        """An idle model is about to stop: there is no room for what it keeps asleep."""

    def on_retired(self, model_id: str) -> None:
        """Nothing is left of a model that is no longer configured."""

    def on_out_of_memory(self, model_id: str) -> bool:
        """Memory ran out while a model loaded; whether its need has grown by that."""


class Driver:
    """Owns tickets, leases, swap greenlets and the timer.

    *write*: see ``recording.DecisionRecorder``. Without a *barrier*, a load begins as soon as all
    victims have left.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        process_of: Callable[[str], Process],
        observer: Observer,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        barrier: Barrier | None = None,
    ) -> None:
        self.scheduler = scheduler
        self._barrier = barrier
        decider: Handles = DecisionRecorder(scheduler, write) if write is not None else scheduler
        self._decide = decider.handle
        self._process_of = process_of
        self._observer = observer
        self._clock = clock
        self._numbers = count(1)
        self._tasks = TaskGroup("driver")
        self._tickets: dict[int, Ticket] = {}
        self._leases: dict[str, set[Lease]] = {}
        self._loose: dict[str, set[Lease]] = {}
        self._resting_on: dict[str, Lease] = {}
        self._commands = Commands(self._numbers)
        self._swaps: dict[int, ActiveSwap] = {}
        self._ready_by: dict[str, int] = {}
        self._timer: Any = None
        self._done = Event()
        self._loaded: msg.LoadDone | None = None
        self._carry: dict[type, Callable[[Any], None]] = {
            msg.Grant: self._grant,
            msg.Refuse: self._refuse,
            msg.CheckStart: self._check,
            msg.StartSwap: self._start_swap,
            msg.AbortLoad: self._abort_load,
            msg.StopModel: self._stop_model,
            msg.SleepModel: self._sleep_model,
            msg.CheckModel: self._check_model,
            msg.CutRequests: self._cut_requests,
            msg.CommandDone: self._commands.answer,
            msg.PreloadEnded: observer.on_preload_ended,
            msg.Yielded: observer.on_yielded,
            msg.NoRoomAsleep: observer.on_no_room_asleep,
            msg.Retired: self._retired,
            msg.SwapEnded: observer.on_swap_finished,
            msg.ShutdownDone: lambda _: self._done.set(),
            msg.WakeMeAt: self._wake_me_at,
        }

    def __repr__(self) -> str:
        return f"<Driver {len(self._tickets)} waiting, {len(self._swaps)} swaps>"

    @property
    def has_waiters(self) -> bool:
        """Whether a request waits for a model."""
        return bool(self._tickets)

    # --- requests ------------------------------------------------------------------------------

    def request(
        self, model_id: str, *, max_wait_s: float | None = None, never_swap: bool = False
    ) -> Ticket:
        """Ask for the right to send one request to *model_id*. Never switches.

        The ticket is settled at once, or later: its owner waits for it, and cancels it when the
        client leaves.
        """
        ticket = Ticket(next(self._numbers), model_id, self._cancel)
        self._tickets[ticket.number] = ticket
        self._send(msg.RequestArrived(ticket.number, model_id, max_wait_s, never_swap))
        return ticket

    def observe(self, model_id: str) -> Lease | None:
        """Return a loose lease on *model_id* if it is ready, else None. Never switches.

        It takes no slot, and the model may sleep or leave as if it did not exist.
        """
        if not self.scheduler.is_ready(model_id):
            return None
        lease = Lease(next(self._numbers), model_id, self._give_back)
        lease.is_loose = True
        lease.on_end = self._forget_loose
        self._loose.setdefault(model_id, set()).add(lease)
        return lease

    def rest(self, model_id: str) -> Lease | None:
        """Return a loose lease on *model_id* if it is ready without a request, else None.

        It is cut as soon as a request comes, or the model is to sleep or leave. Never switches.
        """
        if self._leases.get(model_id):
            return None
        lease = self.observe(model_id)
        if lease is not None:
            self._resting_on[model_id] = lease
        return lease

    def is_busy(self, model_id: str) -> bool:
        """Whether requests are in flight or waiting for *model_id*, or it is to be loaded."""
        return bool(self._leases.get(model_id)) or self.scheduler.is_awaited(model_id)

    def _end_rest(self, model_id: str) -> None:
        lease = self._resting_on.pop(model_id, None)
        if lease is not None:
            lease.cut(ModelLeft(f"{model_id} is not idle any more"))

    def standing(self, model_id: str) -> Standing:
        """Return how soon *model_id* can serve a further request. Never switches."""
        return self.scheduler.standing(model_id, self._clock())

    def recheck_files(self, model_id: str) -> bool:
        """End the back-off of *model_id* if a file of its command has changed; return whether.

        Blocks briefly, on the file system.
        """
        changed = self._process_of(model_id).files_have_changed()
        if changed:
            log.info("<%s> its files have changed: it may be started again", model_id)
            self._send(msg.FilesChanged(model_id))
        return changed

    def position(self, ticket: Ticket) -> int | None:
        """Return the place of a waiting ticket in its model's queue, from 1."""
        return self.scheduler.position(ticket.number)

    def lacks_memory(self, ticket: Ticket) -> bool:
        """Return whether the model of *ticket* waits for memory that others hold. Never switches.

        Other programs, or models that left and have not given it back.
        """
        return self.scheduler.lacks_memory(ticket.model_id)

    def swap_to(self, model_id: str) -> int | None:
        """Return the number of the swap under way that makes *model_id* ready."""
        found = (number for number, swap in self._swaps.items() if swap.effect.target == model_id)
        return next(found, None)

    def leases(self, model_id: str) -> Iterable[Lease]:
        """Return the leases on *model_id* that are out."""
        return tuple(self._leases.get(model_id, ()))

    def _cancel(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket.number, None)
        self._note_swap(ticket)
        self._send(msg.WaiterGone(ticket.number))

    def _give_back(self, lease: Lease) -> None:
        self._leases[lease.model_id].discard(lease)
        if lease.is_loose:
            self._loose.setdefault(lease.model_id, set()).add(lease)
            lease.on_end = self._forget_loose
        self._send(msg.LeaseReturned(lease.ticket, lease.model_id))

    def _forget_loose(self, lease: Lease) -> None:
        self._loose[lease.model_id].discard(lease)
        if self._resting_on.get(lease.model_id) is lease:
            del self._resting_on[lease.model_id]

    def _cut_loose(self, model_id: str) -> None:
        """End the answers that did not keep *model_id*: a server may wait for them to end."""
        for lease in self._loose.pop(model_id, ()):
            lease.on_end = None
            lease.cut(ModelLeft(f"{model_id} was stopped; this answer did not keep it"))

    # --- commands: each blocks until it is answered, and raises why it failed -------------------

    def unload(self, model_id: str | None, *, drain: bool = False) -> None:
        """Stop *model_id* (None: all), aborting its load. Blocks until it is gone."""
        self._command(model_id or "", lambda n: msg.Unload(n, model_id, drain))

    def sleep(self, model_id: str, *, drain: bool = True) -> None:
        """Put *model_id* to sleep. Blocks until it is asleep."""
        self._command(model_id, lambda n: msg.PutToSleep(n, model_id, drain))

    def forbid_sleep(self, model_id: str) -> None:
        """Stop *model_id* from now on where it would be put to sleep. Never switches."""
        self._send(msg.SleepForbidden(model_id))

    def suspect(self, model_id: str) -> None:
        """Have *model_id* checked, and stopped if it does not work. Never switches."""
        self._send(msg.Suspected(model_id))

    def load(self, model_id: str, *, wait: bool = True) -> None:
        """Make *model_id* ready. With *wait*, blocks until it is.

        Without, raises only what is known at once: that it can never fit.
        """
        self._command(model_id, lambda n: msg.Load(n, model_id), wait=wait)

    def preload(self, model_ids: tuple[str, ...]) -> None:
        """Make *model_ids* ready in the background, one after the other. Never switches."""
        self._send(msg.Preload(model_ids))

    def reconfigure(self, change: msg.ConfigChanged | msg.ResidencyChanged) -> None:
        """Apply new rules, or new figures. Never switches."""
        self._send(change)

    def crashed(self, model_id: str, old: State, trigger: Trigger) -> None:
        """Report a state change of a process; the driver picks out the crashes. Never switches."""
        if trigger is Trigger.EXITED and old in {State.READY, State.ASLEEP}:
            error = self._process_of(model_id).explain_exit()
            log.warning("<%s> %s", model_id, in_full(error))
            self._tasks.spawn(f"files {model_id}", self._process_of(model_id).note_files)
            self._send(msg.Exited(self._ready_by.get(model_id, 0), model_id, error))

    def shutdown(self, drain_timeout_s: float, limit_s: float) -> bool:
        """Refuse all, drain, stop all. Blocks up to *limit_s*; tells whether all is stopped."""
        self._send(msg.Shutdown(drain_timeout_s))
        return self._done.wait(limit_s)

    def close(self) -> None:
        """End all tasks. Blocks briefly."""
        self._wake_me_at(msg.WakeMeAt(None))
        self._tasks.close(0.1)

    def _command(
        self, model_id: str, make: Callable[[int], msg.Event], *, wait: bool = True
    ) -> None:
        number = self._commands.begin(model_id)
        try:
            self._send(make(number))
            if wait or self._commands.is_answered(number):
                self._commands.wait(number)
        finally:
            self._commands.forget(number)

    # --- the loop ------------------------------------------------------------------------------

    def _send(self, event: msg.Event) -> None:
        for effect in self._decide(event, self._clock()):
            self._carry[type(effect)](effect)

    def _grant(self, grant: msg.Grant) -> None:
        if self._resting_on:
            self._end_rest(grant.model_id)
        lease = Lease(grant.ticket, grant.model_id, self._give_back)
        self._leases.setdefault(grant.model_id, set()).add(lease)
        if grant.waited_s:
            lease.waited_s = grant.waited_s
            if self._loaded is not None and self._loaded.model_id == grant.model_id:
                lease.swap_id = self._loaded.work
                lease.load_s = min(self._loaded.duration_s, grant.waited_s)
        ticket = self._tickets.pop(grant.ticket, None)
        if ticket is None:
            lease.close()
        else:
            ticket.settle(lease)

    def _refuse(self, refuse: msg.Refuse) -> None:
        ticket = self._tickets.pop(refuse.ticket, None)
        if ticket is not None:
            self._note_swap(ticket)
            ticket.settle(error_of(refuse))

    def _note_swap(self, ticket: Ticket) -> None:
        for swap in self._swaps.values():
            swap.note_on(ticket, self._clock())

    def _cut_requests(self, cut: msg.CutRequests) -> None:
        for lease in self.leases(cut.model_id):
            lease.cut(error_of_cut(cut.model_id, cut.reason))

    def _wake_me_at(self, wake: msg.WakeMeAt) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        if wake.at is not None:
            delay = max(0.0, wake.at - self._clock())
            self._timer = gevent.get_hub().loop.timer(delay)
            self._timer.start(self._tick, update=True)

    def _tick(self) -> None:
        self._send(msg.Tick())

    # --- work that takes time ------------------------------------------------------------------

    def _check(self, check: msg.CheckStart) -> None:
        self._observer.on_waiting(check.model_id)
        self._tasks.spawn(f"check {check.model_id}", self._run_check, check)

    def _run_check(self, check: msg.CheckStart) -> None:
        try:
            self._process_of(check.model_id).check_start(self._handle_ids(check.leaving))
        except LlmsnapError as error:
            self._process_of(check.model_id).note_files()
            self._send(msg.CheckFailed(check.model_id, error))

    def _start_swap(self, effect: msg.StartSwap) -> None:
        self._swaps[effect.work] = swap = ActiveSwap(effect)
        self._observer.on_swap_started(effect)
        self._tasks.spawn(f"swap {effect.work}", self._run_swap, swap)

    def _run_swap(self, swap: ActiveSwap) -> None:
        effect = swap.effect
        report: msg.Event
        try:
            process = self._process_of(effect.target)
            leaving = self._handle_ids(eviction.model_id for eviction in effect.evict)
            process.check_start(leaving)
            returning = self._expect(effect)
            self._evict(effect)
            self._hold(swap, returning)
            swap.begin_loading(self._clock())
            process.place(effect.device)
            process.ensure_ready()
        except LoadAborted:
            at, steps = self._resting(effect.target), self._steps_of(swap)
            report = msg.LoadCancelled(effect.work, effect.target, at, steps)
        except LlmsnapError as error:
            report = self._failed_load(swap, error)
        else:
            kind = LoadKind.WAKE if process.load_trigger is Trigger.WAKE else LoadKind.START
            steps, took_s, found = self._steps_of(swap), process.load_s, process.machine
            report = msg.LoadDone(effect.work, effect.target, kind, took_s, steps, found)
        self._finish_swap(report)
        del self._swaps[effect.work]

    def _expect(self, effect: msg.StartSwap) -> Sequence[Returning]:
        """Return which memory must be free before the load. Blocks briefly if it is measured."""
        if self._barrier is None or not effect.room:
            return ()
        sleeping = any(each.action is Action.SLEEP for each in effect.evict)
        pids = [self._process_of(each.model_id).local_pid for each in effect.evict]
        return self._barrier.expect(effect.room, pids, sleeping=sleeping)

    def _hold(self, swap: ActiveSwap, returning: Sequence[Returning]) -> None:
        """Wait until the memory for the load is free. Raises: MemoryHeld, QueueTimeout."""
        work, target = swap.effect.work, swap.effect.target
        if self._barrier is not None and returning:
            held = Hold(
                target,
                lambda why: self._send(msg.LoadHeld(work, target, why)),
                lambda: swap.aborted,
            )
            swap.missing = self._barrier.wait(returning, held)

    def _failed_load(self, swap: ActiveSwap, error: LlmsnapError) -> msg.LoadFailed:
        """Return the report of a load that failed with *error*. Blocks briefly."""
        effect = swap.effect
        if isinstance(error, OutOfMemory) and effect.room:
            error = error.with_room(swap.missing or shown_room(effect.room))
        log.warning("<%s> load failed: %s", effect.target, in_full(error))
        self._process_of(effect.target).note_files()
        state = self._resting(effect.target)
        # Without the memory that it was promised, it says nothing of what the model needs.
        teaches = isinstance(error, OutOfMemory) and not swap.missing
        lacked = teaches and self._observer.on_out_of_memory(effect.target)
        unplaced, steps = isinstance(error, NoCapacity), self._steps_of(swap)
        return msg.LoadFailed(effect.work, effect.target, error, state, lacked, unplaced, steps)

    def _steps_of(self, swap: ActiveSwap) -> tuple[msg.Step, ...]:
        """Return the parts of the load of *swap*, none if it has not begun."""
        began = swap.loading_since is not None
        return _steps(self._process_of(swap.effect.target).load_steps) if began else ()

    def _finish_swap(self, report: msg.LoadDone | msg.LoadFailed | msg.LoadCancelled) -> None:
        if not isinstance(report, msg.LoadDone):
            self._send(report)
            return
        self._ready_by[report.model_id] = report.work
        self._loaded = report
        self._send(report)
        self._loaded = None
        process = self._process_of(report.model_id)
        if process.state is not State.READY:
            # It died between becoming ready and this report, which the scheduler needs first.
            self._send(msg.Exited(report.work, report.model_id, process.explain_exit()))

    def _evict(self, effect: msg.StartSwap) -> None:
        """Idle all victims in parallel. Raises: why one of them could not be stopped."""
        tasks = [
            self._tasks.spawn(f"evict {one.model_id}", self._idle, effect.work, one)
            for one in effect.evict
        ]
        gevent.joinall(tasks)
        for task in tasks:
            if task.value is not None:
                raise task.value

    def _idle(self, work: int, eviction: Eviction) -> LlmsnapError | None:
        """Put to sleep or stop, and report it; return why it could not be stopped."""
        process = self._process_of(eviction.model_id)
        self._end_rest(eviction.model_id)
        began = self._clock()
        error: LlmsnapError | None = None
        try:
            if eviction.action is Action.SLEEP:
                process.ensure_asleep()
            else:
                self._cut_loose(eviction.model_id)
                process.ensure_stopped("evicted")
        except LlmsnapError as failure:
            error = failure
            log.warning("<%s> %s", eviction.model_id, in_full(failure))
        if process.state not in {State.ASLEEP, State.STOPPED, State.SHUTDOWN}:
            self._cut_loose(eviction.model_id)
            process.ensure_stopped("evicted")
        state = self._resting(eviction.model_id)
        took = self._clock() - began
        steps = _steps(process.leave_steps)
        self._send(msg.Idled(work, eviction.model_id, state, took, error, steps))
        return error if state is State.STOPPING else None

    def _stop_model(self, stop: msg.StopModel) -> None:
        eviction = Eviction(stop.model_id, Action.STOP)
        self._tasks.spawn(f"stop {stop.model_id}", self._idle, stop.work, eviction)

    def _sleep_model(self, sleep: msg.SleepModel) -> None:
        eviction = Eviction(sleep.model_id, Action.SLEEP)
        self._tasks.spawn(f"sleep {sleep.model_id}", self._idle, sleep.work, eviction)

    def _check_model(self, check: msg.CheckModel) -> None:
        self._tasks.spawn(f"ask {check.model_id}", self._run_model_check, check)

    def _run_model_check(self, check: msg.CheckModel) -> None:
        fault = self._process_of(check.model_id).find_fault()
        if fault:
            self._observer.on_faulty(check.model_id, fault)
        self._send(msg.Checked(check.work, check.model_id, not fault))

    def _abort_load(self, abort: msg.AbortLoad) -> None:
        swap = self._swaps.get(abort.work)
        if swap is None:
            return
        swap.aborted = True
        if swap.loading_since is not None:
            why = "its load was given up"
            process = self._process_of(abort.model_id)
            self._tasks.spawn(f"abort {abort.model_id}", process.ensure_stopped, why)

    def _retired(self, retired: msg.Retired) -> None:
        self._leases.pop(retired.model_id, None)
        self._ready_by.pop(retired.model_id, None)
        self._observer.on_retired(retired.model_id)

    def _handle_ids(self, model_ids: Iterable[str]) -> frozenset[str]:
        ids = (self._process_of(model_id).handle_id for model_id in model_ids)
        return frozenset(each for each in ids if each is not None)

    def _resting(self, model_id: str) -> State:
        """The state of a process that is not moving, as the scheduler's reports name it."""
        state = self._process_of(model_id).state
        if state in {State.ASLEEP, State.STOPPED}:
            return state
        return State.STOPPING if state in RESIDENT else State.STOPPED


def _steps(parts: Iterable[tuple[str, float]]) -> tuple[msg.Step, ...]:
    return tuple(msg.Step(name, seconds) for name, seconds in parts)
