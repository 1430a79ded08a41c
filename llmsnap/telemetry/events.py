"""Events inside llmsnap, as frozen values, and the bus that delivers each to its subscribers.

The values are msgspec's structs: several are made for each request, five times as fast as frozen
dataclasses (docs/performance.md). To add an event: a class here, a ``publish`` where it happens,
and a handler in the module that needs it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct, field

from llmsnap.telemetry.record import ActivityRecord

log = logging.getLogger(__name__)


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events; subscribing to it means subscribing to everything.

    *at* is the wall clock in Unix seconds.
    """

    at: float = field(default_factory=time.time)


# --- processes and swaps -----------------------------------------------------------------------


class ProcessStateChanged(Event, frozen=True):
    """A model's process went from state *old* to *new* (names as in the API).

    *reason* says why it leaves where no swap, clock or command makes it leave.
    """

    model_id: str
    old: str
    new: str
    swap_id: int | None = None
    reason: str = ""


class SwapStarted(Event, frozen=True, kw_only=True):
    """*target* begins to load; the models in *evicted* are stopped or put to sleep for it."""

    swap_id: int
    target: str
    evicted: tuple[str, ...] = ()


class SwapFinished(Event, frozen=True, kw_only=True):
    """A swap ended: *outcome* is ``done``, ``failed`` or ``aborted``, *error* its cause.

    *kind* is the kind of load (``start``, ``wake``), *phases* are (name, seconds) in the order
    they happened, such as ``("drain", 3.1)``.
    """

    swap_id: int
    target: str
    outcome: str
    kind: str = ""
    evicted: tuple[str, ...] = ()
    reason: str = ""
    error: str = ""
    waiters: int = 0
    longest_wait_s: float = 0.0
    started_at: float = 0.0
    phases: tuple[tuple[str, float], ...] = ()
    load: Mapping[str, int] | None = None
    """How much of the target's files was loaded at last, as in ``/running``; None: not known."""
    plan: Mapping[str, Any] | None = None
    """Which models were to leave, at what cost, and which other plans there were."""
    when: Mapping[str, Any] | None = None
    """The rule by which it was decided at that time."""
    how: Mapping[str, str] = {}
    """How each of *evicted* left."""
    asked_by: tuple[Mapping[str, Any], ...] = ()
    """The first requests that waited for it."""
    memory: tuple[Mapping[str, Any], ...] = ()
    """What our models held on each device before and after it."""
    prompt_tokens: Mapping[str, int] = {}
    """Tokens of prompts that were ``saved`` before a stop, and ``restored`` after the load."""
    node: str = ""
    """The machine of a launcher that the target runs on since, ``LAUNCHER/NODE``."""


class PromptsKept(Event, frozen=True):
    """*tokens* of prompts were ``saved`` before a stop, ``restored``, and then ``reused`` or not.

    *outcome* is one of these words or ``missed``: an answer has shown that a restore did nothing.
    """

    model_id: str
    outcome: str
    tokens: int


class FilesRead(Event, frozen=True):
    """*read_bytes* of a model's files were read into the page cache before its load."""

    model_id: str
    read_bytes: int


class ModelPreloaded(Event, frozen=True):
    """A model to preload (``hooks``) became ready, or did not for *reason*."""

    model_id: str
    success: bool
    reason: str = ""
    swap_id: int | None = None


class ModelRestarted(Event, frozen=True):
    """A model that did not work is restarted: after a ``wake``, or after ``failures`` in a row."""

    model_id: str
    reason: str


# --- configuration -----------------------------------------------------------------------------


class ReloadPhase(StrEnum):
    """Phase of a configuration reload."""

    START = "start"
    END = "end"
    FAILED = "failed"


class ConfigReload(Event, frozen=True):
    """A reload of *source* began, took effect, or was refused because of *problems*."""

    phase: ReloadPhase
    source: str = ""
    problems: tuple[str, ...] = ()


class ProfileChanged(Event, frozen=True):
    """Names in requests mean what the profile *name* says; empty: no profile is active."""

    name: str


class MemoryChanged(Event, frozen=True):
    """What devices have, what models hold or what they need was measured anew, and has changed."""


# --- requests ----------------------------------------------------------------------------------


class RequestStarted(Event, frozen=True):
    """A request is in flight; an ``ActivityRecorded`` ends it."""


class ActivityRecorded(Event, frozen=True):
    """A request ended, successfully or not; its record is in the activity log."""

    record: ActivityRecord


# --- the bus -----------------------------------------------------------------------------------

E = TypeVar("E", bound="Event")


class EventSubscription:
    """One handler on a bus, until ``close()``."""

    def __init__(self, bus: EventBus, types: tuple[type[Event], ...], handler: Any) -> None:
        self.types = types
        self.handler: Callable[[Any], None] = handler
        self.closed = False
        self._bus = bus

    def __repr__(self) -> str:
        names = ", ".join(kind.__name__ for kind in self.types)
        return f"<EventSubscription {names}{' closed' if self.closed else ''}>"

    def close(self) -> None:
        """Unsubscribe; an event that is being delivered right now does not arrive either."""
        if not self.closed:
            self.closed = True
            self._bus._remove(self)  # noqa: SLF001 - the bus and its subscriptions are one thing


class EventBus:
    """Delivers each published event to its subscribers, in the order they subscribed.

    Publishing is synchronous and never switches greenlets, so a handler sees the state at the time
    of the event. Handlers must not block: they store the fact, or append to a bounded queue. Log
    output is not on the bus; each log stream has its own subscribers.
    """

    def __init__(self) -> None:
        # Tuples are replaced, never changed, so publish() may walk one while it is replaced.
        self._subscribers: dict[type[Event], tuple[EventSubscription, ...]] = {}

    def __repr__(self) -> str:
        count = len({id(s) for group in self._subscribers.values() for s in group})
        return f"<EventBus, {count} subscribers>"

    def subscribe(
        self, types: type[E] | tuple[type[E], ...], handler: Callable[[E], None]
    ) -> EventSubscription:
        """Call *handler* with each later event of exactly these *types*; ``Event`` means all."""
        kinds: tuple[type[Event], ...] = types if isinstance(types, tuple) else (types,)
        subscription = EventSubscription(self, kinds, handler)
        for kind in kinds:
            self._subscribers[kind] = (*self._subscribers.get(kind, ()), subscription)
        return subscription

    def publish(self, event: Event) -> None:
        """Call all handlers of the event's type. Never switches, never raises.

        The exception of a handler is logged and affects neither publisher nor other handlers.
        """
        for subscription in self._subscribers.get(type(event), ()):
            self._deliver(subscription, event)
        for subscription in self._subscribers.get(Event, ()):
            self._deliver(subscription, event)

    def _deliver(self, subscription: EventSubscription, event: Event) -> None:
        if subscription.closed:
            return
        try:
            subscription.handler(event)
        except Exception:
            log.exception("handler of %s failed", type(event).__name__)

    def _remove(self, subscription: EventSubscription) -> None:
        for kind in subscription.types:
            left = tuple(s for s in self._subscribers.get(kind, ()) if s is not subscription)
            if left:
                self._subscribers[kind] = left
            else:
                self._subscribers.pop(kind, None)
