"""Messages between driver and scheduler: events in, effects out, and the contract they keep.

The driver calls ``Scheduler.handle(event, now)`` and carries out the effects it returns, in order
and without a greenlet switch between the call and the last effect; what takes time (idling,
loading) is then done by greenlets of the driver, which report back by further events.

**Numbers.** *ticket*: one request, chosen by the driver, never used twice. *command*: one API call
that wants an answer, chosen by the driver. *work*: one swap, stop or sleep, chosen by the
scheduler; reports carry it back. A report whose *work* the scheduler no longer knows is ignored,
so a late one does no harm.

**A request.** ``RequestArrived`` is followed by exactly one ``Grant`` or ``Refuse`` for its
ticket, at once or later, or by the driver's ``WaiterGone``. After a ``Grant`` the slot belongs to
the ticket until the driver sends ``LeaseReturned``, which it does exactly once, also when the
client had gone before the grant was carried out. ``WaiterGone`` for a ticket that no longer waits
does nothing.

**A swap.** ``StartSwap(work, target, kind, evict)``; no model in *evict* has a request in flight.

1. The driver checks what can be known (executable, port). A failure is ``LoadFailed`` before any
   ``Idled``: those to be evicted simply stay.
2. It idles all of *evict* in parallel and sends one ``Idled(work, ...)`` for each as it ends. One
   that could neither be put to sleep nor stopped is reported with ``State.STOPPING`` and an
   error; the driver then sends ``LoadFailed`` once the others have ended.
3. After the last ``Idled`` it makes *target* ready (an asleep one may need a cold start after a
   failed wake; that is still the same load) and sends one of ``LoadDone``, ``LoadFailed``,
   ``LoadCancelled``; that ends the swap. Before, ``LoadHeld`` says that the load has to wait for
   memory, and why; one without a reason, that the load begins. After a ``LoadFailed`` for lack of
   memory those who wait for *target* wait on for one more swap, which makes more room; for lack of
   a machine for up to ``swaps.RETRIES`` more, as long as another model can leave the cluster.

``AbortLoad(work)`` may come at any moment in between: evictions begun are finished and reported,
the load is not begun, or is stopped, and ``LoadCancelled`` says where that left the target. When
the load ended by itself in the same moment, ``LoadDone`` or ``LoadFailed`` is as good an end.

**Stop and sleep.** ``StopModel`` and ``SleepModel`` are answered by one ``Idled`` each. A
``SleepModel`` whose sleep fails stops the model; its ``Idled`` says ``State.STOPPED`` and why.
Where ``CutRequests`` came before, the driver ends those requests; their ``LeaseReturned`` come
whenever they are through. Neither waits for them.

**A suspicion.** ``Suspected`` shuts the gate of a ready model; when its requests have ended, or
after ``CHECK_DRAIN_S``, ``CheckModel`` has the driver ask its server whether it works, and
``Checked`` opens the gate again, or has the model stopped. Another stop makes the check void.

**A crash.** A process that ends while no work of the scheduler concerns it is ``Exited``. When
work concerns it, the work's own report tells.

**Time.** *now* is ``time.monotonic()``. ``WakeMeAt`` sets the only timer there is (``None`` clears
it); when it fires the driver sends ``Tick``. A tick too early or too many is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from llmsnap.config import (
    Config,
    ModelConfig,
)
from llmsnap.models import State
from llmsnap.routing.budget import NOTHING, Figures, Nodes, budget_of, pools_of
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.pools import Pooled
from llmsnap.routing.residency import (
    Action,
    DeviceRoom,
    Group,
    Groups,
    LoadKind,
    Plan,
    Residency,
)

# --- settings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelRules:
    """One model's limits and clocks.

    *concurrency_limit*: requests served at once, at least 1. *queue_limit*: requests that may wait
    for a load, a wake or a gate, at least 1. *ttl_s*: idle seconds until it is stopped,
    *sleep_after_s*: idle seconds until it sleeps (0 = never). *can_sleep*: it sleeps instead of
    stopping when it has to leave. *priority*: higher goes first in the queue.
    """

    model_id: str
    concurrency_limit: int = 100
    queue_limit: int = 1000
    ttl_s: float = 0.0
    sleep_after_s: float = 0.0
    can_sleep: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """Settings of the scheduler as a whole.

    *policy*: one of ``policies.POLICIES``. *max_hold_s*: how long a waiting model is held off at
    most, and how long a drain may keep gates shut before they open once more.
    *queue_timeout_s*: the longest a request waits (0 = no limit). *concurrency_limit*: requests
    that all models together serve at once (0 = no limit). *yields*: idle models leave for memory
    that other programs take.
    """

    policy: str = "fair"
    max_hold_s: float = 120.0
    queue_timeout_s: float = 3600.0
    concurrency_limit: int = 0
    yields: bool = False


# --- swaps and their records ----------------------------------------------------------------------


class SwapOutcome(StrEnum):
    """How a swap ended.

    ``aborted``: nothing waited for it any more, or the target was unloaded, before it was
    ready; this includes swaps that shut gates and opened them again without an eviction.
    """

    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


class DueRule(StrEnum):
    """Which rule says when a swap may be decided."""

    FREE = "free"  # no model has to leave: at once
    IDLE = "idle"  # all that leave are idle: at once
    BUSY = "busy"  # not before they are idle
    HOLD = "hold"  # once the oldest request has waited as long as the swap is likely to take
    TURN = "turn"  # once each busy victim had its turn


class Due(NamedTuple):
    """When a swap may be decided, on the scheduler's clock: minus infinity at once, plus never.

    *hold_s* is how long the oldest request is held off for busy victims, *turn_s* how long their
    turn lasts.
    """

    at: float
    rule: DueRule
    hold_s: float = 0.0
    turn_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Eviction:
    """*model_id* has to leave, by way of *action*."""

    model_id: str
    action: Action


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """One finished swap.

    *reason* is who asked: ``request``, ``load`` (by hand) or ``preload``. *waits_s* are the waits
    of the requests granted when the target became ready, oldest first. *phases* are (name,
    seconds) in the order they happened: ``wait`` (from the first waiter to the decision),
    ``drain``, ``save``, ``evict``, ``barrier``, ``failed_wake``, ``failed_check`` and ``placing``
    (before a start), ``load``, ``restore``, ``canary``. *reopened*: the drain took so long that the
    gates opened once more. *began_s* and *ended_s* are on the
    scheduler's clock. *plan* is what was decided, and why, *due* by which rule it was decided when
    it was. *tickets* are the first requests that waited for it, oldest first.
    """

    swap_id: int
    target: str
    kind: LoadKind
    outcome: SwapOutcome
    evicted: tuple[Eviction, ...]
    reason: str
    waits_s: tuple[float, ...]
    phases: tuple[tuple[str, float], ...]
    reopened: bool
    began_s: float
    ended_s: float
    error: str = ""
    plan: Plan | None = None
    due: Due | None = None
    tickets: tuple[int, ...] = ()

    @property
    def waiters(self) -> int:
        """How many requests were granted when the target became ready."""
        return len(self.waits_s)

    def __str__(self) -> str:
        evicted = ", ".join(f"{e.model_id} ({e.action})" for e in self.evicted) or "no model"
        phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.phases)
        text = (
            f"swap {self.swap_id}: {self.kind} {self.target} for {self.reason}, {self.outcome}; "
            f"evicted {evicted}; {self.waiters} waited; {phases}"
        )
        return f"{text}; {self.error}" if self.error else text


# --- effects: what the scheduler asks for ---------------------------------------------------------


class RefusalReason(StrEnum):
    """Why a request is refused; the comment is the HTTP status that fits."""

    UNKNOWN = "unknown"  # 404: no such model, or it was removed while the request waited
    NOT_READY = "not_ready"  # 409: it would have to wait and ``never_swap`` forbids it
    TOO_MANY = "too_many"  # 429: every slot taken, or the queue is full; *why* says which
    FAILED = "failed"  # *error* says: the load failed now, or lately (then with *retry_after_s*)
    UNLOADED = "unloaded"  # 503: the model was unloaded while the request waited
    QUEUE_TIMEOUT = "queue_timeout"  # 503: waited too long; *why* says for whom
    NEVER_FITS = "never_fits"  # 503: the model can never load; *why* says what it needs
    SHUTDOWN = "shutdown"  # 503: llmsnap is going away


class Outcome(StrEnum):
    """How a command ended; the comment is the HTTP status that fits."""

    OK = "ok"  # 200
    UNKNOWN = "unknown"  # 404: no such model, or it was removed meanwhile
    SLEEP_NOT_CONFIGURED = "sleep_not_configured"  # 409
    STOPPED = "stopped"  # a sleep was asked for, and the model is stopped or about to be
    FAILED = "failed"  # 502: *error* says; a model whose sleep failed has been stopped
    UNLOADED = "unloaded"  # 503: the model that was to be loaded was unloaded
    QUEUE_TIMEOUT = "queue_timeout"  # 503: a load, or preload, waited too long for others to leave
    SUPERSEDED = "superseded"  # a preload only: a client's request needed the room
    SHUTDOWN = "shutdown"  # 503


class CutReason(StrEnum):
    """Why requests in flight are ended by us."""

    UNLOADED = "unloaded"
    SLEEP = "sleep"
    FAULTY = "faulty"
    SHUTDOWN = "shutdown"


@dataclass(slots=True)  # made for every request, and a frozen one takes twice as long
class Grant:
    """*ticket* may send its one request now; the slot is already taken on its behalf."""

    ticket: int
    model_id: str
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refuse:
    """*ticket* gets an error made of these facts.

    *why* is a sentence for people about what was in the way ("A is serving 1 request for 61
    min"), *state* the model's state, *waited_s* how long the request waited. *retry_after_s* is
    an estimate, None when there is none. *error* is that of the load, when FAILED.
    """

    ticket: int
    model_id: str
    reason: RefusalReason
    state: State
    why: str = ""
    waited_s: float = 0.0
    retry_after_s: float | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class CheckStart:
    """Requests have begun to wait for *model_id*; those in *leaving* would have to leave for it.

    CheckStart now what can be known (the command's words, the executable, the port) and send
    ``CheckFailed`` if it cannot work. Nothing need be sent when all is well.
    """

    model_id: str
    leaving: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StartSwap:
    """Idle all of *evict* in parallel, then make *target* ready, by the newest definition.

    *device* is the GPU it is placed on, such as ``gpu1``; empty where its command, or its launcher,
    decides. *room* is what it takes and finds by the memory budget of this machine.
    """

    work: int
    target: str
    kind: LoadKind
    evict: tuple[Eviction, ...] = ()
    device: str = ""
    room: tuple[DeviceRoom, ...] = ()


@dataclass(frozen=True, slots=True)
class AbortLoad:
    """Give up the load of swap *work*: nothing waits for it, or its room is needed."""

    work: int
    model_id: str


@dataclass(frozen=True, slots=True)
class StopModel:
    """Stop the process of *model_id*."""

    work: int
    model_id: str


@dataclass(frozen=True, slots=True)
class SleepModel:
    """Put *model_id* to sleep; stop it when that fails."""

    work: int
    model_id: str


@dataclass(frozen=True, slots=True)
class CheckModel:
    """Ask the server of *model_id* whether it works, and report it by ``Checked``."""

    work: int
    model_id: str


@dataclass(frozen=True, slots=True)
class CutRequests:
    """End all requests in flight on *model_id*."""

    model_id: str
    reason: CutReason


@dataclass(frozen=True, slots=True)
class CommandDone:
    """*command* is over."""

    command: int
    outcome: Outcome
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class PreloadEnded:
    """The preload of *model_id* is over; anything but OK means it is not ready."""

    model_id: str
    outcome: Outcome
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Yielded:
    """*model_id*, which is idle, leaves because *holders* took the memory of *device*.

    It is followed by ``StopModel`` or ``SleepModel``.
    """

    model_id: str
    device: str
    holders: str


@dataclass(frozen=True, slots=True)
class NoRoomAsleep:
    """*model_id*, idle for ``sleepAfter``, is stopped: *device* has no room for it asleep.

    It is followed by ``StopModel``.
    """

    model_id: str
    device: str


@dataclass(frozen=True, slots=True)
class Retired:
    """Nothing is left of *model_id*, which is no longer configured: forget it."""

    model_id: str


@dataclass(frozen=True, slots=True)
class SwapEnded:
    """A swap is over: log, keep and publish *record*."""

    record: SwapRecord


@dataclass(frozen=True, slots=True)
class ShutdownDone:
    """All models are stopped, save those that could not be."""


@dataclass(frozen=True, slots=True)
class WakeMeAt:
    """Send ``Tick`` at *at* on the scheduler's clock instead of any earlier wish; None = never."""

    at: float | None


Effect = (
    Grant
    | Refuse
    | CheckStart
    | StartSwap
    | AbortLoad
    | StopModel
    | SleepModel
    | CheckModel
    | CutRequests
    | CommandDone
    | PreloadEnded
    | Yielded
    | NoRoomAsleep
    | Retired
    | SwapEnded
    | ShutdownDone
    | WakeMeAt
)


# --- events: what the scheduler handles -----------------------------------------------------------


@dataclass(slots=True)  # made for every request, and a frozen one takes twice as long
class RequestArrived:
    """A client wants *model_id*.

    *max_wait_s* shortens the queue timeout; 0 or less means "not at all". With *never_swap* the
    request is refused rather than made to wait for a load, a wake or a gate.
    """

    ticket: int
    model_id: str
    max_wait_s: float | None = None
    never_swap: bool = False


@dataclass(frozen=True, slots=True)
class WaiterGone:
    """The client of a waiting request left."""

    ticket: int


@dataclass(slots=True)  # made for every request, and a frozen one takes twice as long
class LeaseReturned:
    """A granted request is over, well or not. A second return of the same ticket is ignored."""

    ticket: int
    model_id: str


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a load or stop that is a phase of its own in the record of a swap."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Idled:
    """*model_id* has left: *state* is ASLEEP, STOPPED, or STOPPING when it could not be stopped.

    *duration_s* is what the sleep, or the stop, took, of which *steps* are the first parts.
    *error*: why it is not asleep though it was to sleep, or not stopped though it was to stop.
    """

    work: int
    model_id: str
    state: State
    duration_s: float
    error: Exception | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadDone:
    """The swap's target is ready.

    *kind* is what succeeded in the end, *duration_s* how long that part took, of which *steps* are
    the last parts: a failed wake before a cold start is not counted. *device* is the machine that
    its launcher found, as the residency names it; empty: it is where it was placed.
    """

    work: int
    model_id: str
    kind: LoadKind
    duration_s: float
    steps: tuple[Step, ...] = ()
    device: str = ""


@dataclass(frozen=True, slots=True)
class LoadHeld:
    """The load of the swap's target waits for memory that others have not given back: *why*.

    An empty *why* says that it begins now.
    """

    work: int
    model_id: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The swap's target is not ready and will not be.

    *state* is STOPPED, ASLEEP as before, or STOPPING when its process cannot be stopped. *lacked*:
    memory ran out, and the residency in force accounts for that by now. *unplaced*: its launcher
    found no free machine. *steps* are parts of what the load took, such as a failed wake.
    """

    work: int
    model_id: str
    error: Exception
    state: State = State.STOPPED
    lacked: bool = False
    unplaced: bool = False
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadCancelled:
    """The load was given up as asked, and its process is gone.

    *state* is STOPPED, ASLEEP as before, or STOPPING when its process cannot be stopped. *steps*
    are parts of what it took until then.
    """

    work: int
    model_id: str
    state: State = State.STOPPED
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """What ``CheckStart`` asked about cannot work."""

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
class Suspected:
    """So many requests to *model_id* have failed that its server may be broken."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The server of *model_id* was asked, as ``CheckModel`` demanded; whether it works."""

    work: int
    model_id: str
    works: bool


@dataclass(frozen=True, slots=True)
class SleepForbidden:
    """*model_id* does not work after its wakes: it is stopped where it would sleep."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Load:
    """Make *model_id* ready as if a client that never leaves waited; forgets earlier failures.

    It evicts only models that have nothing in flight and nothing waiting. OK when it is ready.
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
    """These are the models, residency and settings from now on. Also the first event of all.

    Models no longer in *rules* are removed: waiters refused, a load aborted, requests in flight
    may end, then the process is stopped and ``Retired`` sent. Those in *restart* are stopped in
    the same way, but their waiters wait for the new definition. Everything else just applies.
    Those in *changed* were redefined in any other way: their failures are forgotten, too.
    """

    rules: tuple[ModelRules, ...]
    residency: Residency
    options: SchedulerOptions
    restart: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ResidencyChanged:
    """This is the residency from now on: its figures changed, and nothing else did."""

    residency: Residency


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
    RequestArrived
    | WaiterGone
    | LeaseReturned
    | Idled
    | LoadHeld
    | LoadDone
    | LoadFailed
    | LoadCancelled
    | CheckFailed
    | Exited
    | FilesChanged
    | Unload
    | PutToSleep
    | SleepForbidden
    | Suspected
    | Checked
    | Load
    | Preload
    | ConfigChanged
    | ResidencyChanged
    | Shutdown
    | Tick
)


# --- from a configuration -------------------------------------------------------------------------

NONE: frozenset[str] = frozenset()


def change_of(
    config: Config,
    restart: frozenset[str] = NONE,
    changed: frozenset[str] = NONE,
    figures: Figures = NOTHING,
    sleepless: frozenset[str] = NONE,
) -> ConfigChanged:
    """Return the event that makes *config* the scheduler's own.

    *restart* models are replaced; *changed* ones have a new definition, so that earlier failures no
    longer count. *figures* is what was found and measured on this machine. *sleepless* models do
    not sleep, whatever their settings say.
    """
    priorities = config.scheduler.priorities
    rules = tuple(
        _rules(model, priorities.get(model.id, 0), can_sleep=model.id not in sleepless)
        for model in config.models.values()
    )
    options = SchedulerOptions(
        policy=config.scheduler.use,
        max_hold_s=config.scheduler.max_hold_s,
        queue_timeout_s=config.queue_timeout_s,
        concurrency_limit=config.global_concurrency_limit,
        yields=config.memory_rules.yields,
    )
    residency = residency_of(config, figures)
    return ConfigChanged(rules, residency, options, restart, changed)


def residency_of(config: Config, figures: Figures = NOTHING) -> Residency:
    """Return what decides, by *config*, which models run together."""
    if config.residency == "memory":
        return pooled(config, budget_of(config, figures), figures.nodes)
    if config.residency == "matrix" and config.matrix is not None:
        external = [model.id for model in config.models.values() if model.is_elsewhere]
        return pooled(config, Matrix(config.matrix, external), figures.nodes)
    groups = Groups(
        Group(
            *(group.id, group.members, group.swap, group.exclusive, group.persistent, group.places)
        )
        for group in config.groups.values()
    )
    return pooled(config, groups, figures.nodes)


def pooled(config: Config, residency: Residency, nodes: Nodes) -> Residency:
    """Return *residency* with the launchers on clusters of *config*, if there are any."""
    pools = pools_of(config, nodes)
    return Pooled(residency, pools) if pools else residency


def _rules(model: ModelConfig, priority: int, *, can_sleep: bool) -> ModelRules:
    return ModelRules(
        model_id=model.id,
        concurrency_limit=model.concurrency_limit,
        queue_limit=model.queue_limit,
        ttl_s=model.ttl_s,
        sleep_after_s=model.sleep_after_s,
        can_sleep=model.can_sleep and can_sleep,
        priority=priority,
    )
