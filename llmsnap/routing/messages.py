"""What the scheduler is told (the events, here) and how its effects answer: the driver's contract.

The driver calls ``Scheduler.handle(event, now)`` and carries out the effects it returns, in order
and without a greenlet switch between the call and the last effect; what takes time (idling,
loading) is then done by greenlets of the driver, which report back by further events.

**Numbers.** *ticket*: one request, chosen by the driver, never used twice. *command*: one API call
that wants an answer, chosen by the driver. *work*: one swap, stop or sleep, chosen by the
scheduler; reports carry it back. A report whose *work* the scheduler no longer knows is ignored,
so a late one does no harm.

**A request.** ``Request`` is followed by exactly one ``Grant`` or ``Refuse`` for its ticket, at
once or later, or by the driver's ``ClientGone``. After a ``Grant`` the slot belongs to the ticket
until the driver sends ``LeaseReturned``, which it does exactly once, also when the client had gone
before the grant was carried out. ``ClientGone`` for a ticket that no longer waits does nothing.

**A swap.** ``StartSwap(work, target, kind, evict)``; nobody in *evict* has a request in flight.

1. The driver checks what can be known (executable, port). A failure is ``LoadFailed`` before any
   ``Idled``: those to be evicted simply stay.
2. It idles all of *evict* in parallel and sends one ``Idled(work, ...)`` for each as it ends. One
   that could neither be put to sleep nor stopped is reported with ``State.STOPPING`` and an
   error; the driver then sends ``LoadFailed`` once the others have ended.
3. After the last ``Idled`` it makes *target* ready (an asleep one may need a cold start after a
   failed wake; that is still the same load) and sends one of ``Loaded``, ``LoadFailed``,
   ``LoadAborted``; that ends the swap.

``AbortLoad(work)`` may come at any moment in between: evictions begun are finished and reported,
the load is not begun, or is stopped, and ``LoadAborted`` says where that left the target. When the
load ended by itself in the same moment, ``Loaded`` or ``LoadFailed`` is as good an end.

**Stop and sleep.** ``StopModel`` and ``SleepModel`` are answered by one ``Idled`` each. A
``SleepModel`` whose sleep fails stops the model; its ``Idled`` says ``State.STOPPED`` and why.
Where ``CutRequests`` came before, the driver ends those requests; their ``LeaseReturned`` come
whenever they are through. Neither waits for them.

**A crash.** A process that ends while no work of the scheduler concerns it is ``Exited``. When
work concerns it, the work's own report tells.

**Time.** *now* is ``time.monotonic()``. ``WakeMeAt`` sets the only timer there is (``None`` clears
it); when it fires the driver sends ``Tick``. A tick too early or too many is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmsnap.models import State
from llmsnap.routing.plan import Plan
from llmsnap.routing.rules import ModelRules, Options
from llmsnap.routing.swaps import LoadKind


@dataclass(slots=True)  # made for every request, and a frozen one takes twice as long
class Request:
    """A client wants *model_id*.

    *max_wait_s* shortens the queue timeout; 0 or less means "not at all". With *never_swap* the
    request is refused rather than made to wait for a load, a wake or a gate.
    """

    ticket: int
    model_id: str
    max_wait_s: float | None = None
    never_swap: bool = False


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The client of a waiting request left."""

    ticket: int


@dataclass(slots=True)  # made for every request, and a frozen one takes twice as long
class LeaseReturned:
    """A granted request is over, well or not. A second return of the same ticket is ignored."""

    ticket: int
    model_id: str


@dataclass(frozen=True, slots=True)
class Idled:
    """*model_id* has left: *state* is ASLEEP, STOPPED, or STOPPING when it could not be stopped.

    *duration_s* is what the sleep, or the stop, took. *error*: why it is not asleep though it was
    to sleep, or not stopped though it was to stop.
    """

    work: int
    model_id: str
    state: State
    duration_s: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The swap's target is ready.

    *kind* is what succeeded in the end, *duration_s* how long that part took: a failed wake before
    a cold start is not counted.
    """

    work: int
    model_id: str
    kind: LoadKind
    duration_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The swap's target is not ready and will not be.

    *state* is STOPPED, ASLEEP as before, or STOPPING when its process cannot be stopped.
    """

    work: int
    model_id: str
    error: Exception
    state: State = State.STOPPED


@dataclass(frozen=True, slots=True)
class LoadAborted:
    """The load was given up as asked, and its process is gone.

    *state* is STOPPED, ASLEEP as before, or STOPPING when its process cannot be stopped.
    """

    work: int
    model_id: str
    state: State = State.STOPPED


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """What ``Check`` asked about cannot work."""

    model_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of a ready or asleep model ended by itself.

    Or that of one that could not be stopped ended at last. *work* is the number of the swap that
    made the model ready the last time, so that the end of an earlier process is not taken for that
    of the present one.
    """

    work: int
    model_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """A file that the command of *model_id* names has changed: its failures are forgotten."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Stop *model_id*, or all models when None, now.

    Its load is aborted and its waiters are refused; requests in flight are cut, or, with *drain*,
    may end while new ones wait for the next load. Answered when the processes are gone.
    """

    command: int
    model_id: str | None = None
    drain: bool = False


@dataclass(frozen=True, slots=True)
class PutToSleep:
    """Let *model_id* sleep: OK only when it is asleep.

    A loading model is waited for, and its present waiters are served first. Without *drain* the
    requests in flight right now are cut.
    """

    command: int
    model_id: str
    drain: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """Make *model_id* ready as if a client that never leaves waited; forgets earlier failures.

    It evicts only models that have nothing in flight and nobody waiting. OK when it is ready.
    """

    command: int
    model_id: str


@dataclass(frozen=True, slots=True)
class Preload:
    """Make each of *model_ids* ready, one after the other; each gets a ``PreloadEnded``.

    Replaces what is left of an earlier list, whose entries are reported as superseded.
    """

    model_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """These are the models, groups and settings from now on. Also the first event of all.

    Models no longer in *rules* are removed: waiters refused, a load aborted, requests in flight
    may end, then the process is stopped and ``Retired`` sent. Those in *restart* are stopped in
    the same way, but their waiters wait for the new definition. Everything else just applies.
    Those in *changed* were redefined in any other way: their failures are forgotten, too.
    """

    rules: tuple[ModelRules, ...]
    plan: Plan
    options: Options
    restart: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Refuse all waiters and newcomers, give requests in flight *drain_timeout_s*, stop all.

    Ends with ``ShutdownDone``. A second one replaces the time left (0 = cut now).
    """

    drain_timeout_s: float


@dataclass(frozen=True, slots=True)
class Tick:
    """The time asked for by ``WakeMeAt`` has come."""


Event = (
    Request
    | ClientGone
    | LeaseReturned
    | Idled
    | Loaded
    | LoadFailed
    | LoadAborted
    | CheckFailed
    | Exited
    | FilesChanged
    | Unload
    | PutToSleep
    | Load
    | Preload
    | ConfigChanged
    | Shutdown
    | Tick
)
