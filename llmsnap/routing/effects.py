"""What the scheduler wants done; ``messages`` tells what each effect asks of the driver."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmsnap.models import State
from llmsnap.routing.swaps import Eviction, LoadKind, SwapRecord


class Refusal(StrEnum):
    """Why a request is refused; the comment is the HTTP status that fits."""

    UNKNOWN = "unknown"  # 404: no such model, or it was removed while the request waited
    NOT_READY = "not_ready"  # 409: it would have to wait and ``never_swap`` forbids it
    TOO_MANY = "too_many"  # 429: every slot taken, or the queue is full; *why* says which
    FAILED = "failed"  # *error* says: the load failed now, or lately (then with *retry_after_s*)
    UNLOADED = "unloaded"  # 503: somebody unloaded the model while the request waited
    QUEUE_TIMEOUT = "queue_timeout"  # 503: waited too long; *why* says for whom
    SHUTDOWN = "shutdown"  # 503: llmsnap is going away


class Outcome(StrEnum):
    """How a command ended; the comment is the HTTP status that fits."""

    OK = "ok"  # 200
    UNKNOWN = "unknown"  # 404: no such model, or it was removed meanwhile
    SLEEP_NOT_CONFIGURED = "sleep_not_configured"  # 409
    STOPPED = "stopped"  # a sleep was asked for, and the model is stopped or about to be
    FAILED = "failed"  # 502: *error* says; a model whose sleep failed has been stopped
    UNLOADED = "unloaded"  # 503: somebody unloaded the model that was to be loaded
    QUEUE_TIMEOUT = "queue_timeout"  # 503: a load, or preload, waited too long for others to leave
    SUPERSEDED = "superseded"  # a preload only: a client's request needed the room
    SHUTDOWN = "shutdown"  # 503


class CutReason(StrEnum):
    """Why requests in flight are ended by us."""

    UNLOADED = "unloaded"
    SLEEP = "sleep"
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
    reason: Refusal
    state: State
    why: str = ""
    waited_s: float = 0.0
    retry_after_s: float | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Requests have begun to wait for *model_id*; those in *leaving* would have to leave for it.

    Check now what can be known (the command's words, the executable, the port) and send
    ``CheckFailed`` if it cannot work. Nothing need be sent when all is well.
    """

    model_id: str
    leaving: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StartSwap:
    """Idle all of *evict* in parallel, then make *target* ready, by the newest definition."""

    work: int
    target: str
    kind: LoadKind
    evict: tuple[Eviction, ...] = ()


@dataclass(frozen=True, slots=True)
class AbortLoad:
    """Give up the load of swap *work*: nobody needs it any more, or somebody else the room."""

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
class CutRequests:
    """End all requests in flight on *model_id*."""

    model_id: str
    reason: CutReason


@dataclass(frozen=True, slots=True)
class Answer:
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
class Retired:
    """Nothing is left of *model_id*, which is no longer configured: forget it."""

    model_id: str


@dataclass(frozen=True, slots=True)
class SwapFinished:
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
    | Check
    | StartSwap
    | AbortLoad
    | StopModel
    | SleepModel
    | CutRequests
    | Answer
    | PreloadEnded
    | Retired
    | SwapFinished
    | ShutdownDone
    | WakeMeAt
)
