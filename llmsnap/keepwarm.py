"""Keeping models warm: loads and unloads at times of day, and loads when there are no requests.

The loads are those of a preload: they give way to any request. The first half is pure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from gevent.event import Event

from llmsnap.config import Config, IdleHook, ScheduleEntry
from llmsnap.errors import LlmsnapError
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

# --- what is due ----------------------------------------------------------------------------------

WEEK = 8
"""Days that are looked at: one that was missed, and a week."""


def instant(entry: ScheduleEntry, day: date) -> float:
    """Return the Unix time of *entry* on *day*.

    A time that the clock skips is as much later; of one that it shows twice the first counts.
    """
    local = datetime.combine(day, entry.at)
    zone = ZoneInfo(entry.tz) if entry.tz else None
    return local.replace(tzinfo=zone).timestamp()


def next_due(entry: ScheduleEntry, after: float) -> float | None:
    """Return the first time of *entry* later than *after*, in Unix seconds; None: it has no day."""
    zone = ZoneInfo(entry.tz) if entry.tz else None
    today = datetime.fromtimestamp(after, zone).date()
    days = (today + timedelta(days=number) for number in range(-1, WEEK + 1))
    times = (instant(entry, day) for day in days if day.weekday() in entry.days)
    return min((at for at in times if at > after), default=None)


def due_between(
    schedule: Sequence[ScheduleEntry], after: float, now: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the models to load and those to unload, of the entries due in (*after*, *now*].

    If a model has several, the last one counts: the clock may have jumped.
    """
    due = []
    for number, entry in enumerate(schedule):
        at = next_due(entry, after)
        if at is not None and at <= now:
            due.append((at, number, entry))
    loads: dict[str, bool] = {}
    for _, _, entry in sorted(due, key=lambda each: each[:2]):
        for names, loaded in ((entry.unload, False), (entry.load, True)):
            for name in names:
                loads.pop(name, None)
                loads[name] = loaded
    return (
        tuple(name for name, loaded in loads.items() if loaded),
        tuple(name for name, loaded in loads.items() if not loaded),
    )


class IdleClock:
    """How long there was no request. *now* is on one clock, of any kind."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._done = False

    def note_request(self, now: float) -> None:
        """Note that a request is there, or has just ended."""
        self._since = now
        self._done = False

    def due_at(self, hook: IdleHook) -> float | None:
        """Return when *hook* is due if no request comes; None: it was, since the last request."""
        return None if self._done else self._since + hook.after_s

    def take_due(self, hook: IdleHook, now: float) -> bool:
        """Return whether *hook* is due now; only once until the next request."""
        at = self.due_at(hook)
        self._done = self._done or (at is not None and at <= now)
        return at is not None and at <= now


# --- doing it -------------------------------------------------------------------------------------

LONGEST_SLEEP_S = 60.0
"""The wall clock may be set, and a machine may sleep."""
BUSY_RETRY_S = 5.0
"""Until a model that is to be unloaded is looked at again."""


class Loader(Protocol):
    """Loads and unloads models; implemented by the driver."""

    def preload(self, model_ids: tuple[str, ...]) -> None:
        """Make models ready in the background, unless requests need the room. Never switches."""

    def unload(self, model_id: str | None, *, drain: bool = False) -> None:
        """Stop a model. Blocks until it is gone. Raises: LlmsnapError."""


class KeepWarm:
    """Does what ``schedule`` and ``hooks.on_idle`` say.

    *is_busy* says whether a model has requests in flight or waiting, *has_requests* whether there
    is any request. *clock* is monotonic, *wall* Unix seconds.
    """

    def __init__(
        self,
        loader: Loader,
        is_busy: Callable[[str], bool],
        has_requests: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loader, self._is_busy, self._has_requests = loader, is_busy, has_requests
        self._clock, self._wall = clock, wall
        self._schedule: tuple[ScheduleEntry, ...] = ()
        self._hook: IdleHook | None = None
        self._idle = IdleClock(clock())
        self._checked = wall()
        self._unloads: tuple[str, ...] = ()
        self._changed = Event()
        self._tasks = TaskGroup("keep warm")

    def __repr__(self) -> str:
        return f"<KeepWarm {len(self._schedule)} entries, {self._hook}>"

    def configure(self, config: Config) -> None:
        """Do what *config* says from now on. Never switches."""
        self._schedule, self._hook = config.schedule, config.on_idle
        self._unloads = tuple(name for name in self._unloads if name in config.models)
        if (self._schedule or self._hook) and not len(self._tasks):
            self._tasks.spawn("clock", self._run)
        self._changed.set()

    def note_request(self) -> None:
        """Note that a request has ended. Never switches."""
        self._idle.note_request(self._clock())

    def close(self) -> None:
        """End the clock. Blocks."""
        self._tasks.close(0)

    def _run(self) -> None:
        self._checked = self._wall()
        while self._schedule or self._hook:
            self._changed.clear()
            self._changed.wait(self.pause_s())
            self.check()

    def pause_s(self) -> float:
        """Return how long nothing will be due."""
        pauses = [LONGEST_SLEEP_S] if self._schedule else []
        if self._unloads:
            pauses.append(BUSY_RETRY_S)
        wall = self._wall()
        due = (next_due(entry, wall) for entry in self._schedule)
        pauses += [at - wall for at in due if at is not None]
        at = self._idle.due_at(self._hook) if self._hook is not None else None
        if at is not None:
            pauses.append(max(0.01, at - self._clock()))
        return min(pauses, default=LONGEST_SLEEP_S)

    def check(self) -> None:
        """Do what is due now. Blocks while a model is unloaded."""
        after, self._checked = min(self._checked, self._wall()), self._wall()
        loads, unloads = due_between(self._schedule, after, self._checked)
        self._unloads = tuple(
            name for name in dict.fromkeys((*self._unloads, *unloads)) if name not in loads
        )
        if loads:
            log.info("schedule: loading %s", ", ".join(loads))
            self._loader.preload(loads)
        self._unload(self._unloads)
        self._check_idle()

    def _unload(self, names: Iterable[str]) -> None:
        for name in names:
            if self._is_busy(name):
                continue
            self._unloads = tuple(each for each in self._unloads if each != name)
            log.info("<%s> unloaded by schedule", name)
            try:
                self._loader.unload(name, drain=True)
            except LlmsnapError as error:
                log.warning("<%s> could not be unloaded: %s", name, error)

    def _check_idle(self) -> None:
        if self._has_requests():
            self._idle.note_request(self._clock())
        if self._hook is not None and self._idle.take_due(self._hook, self._clock()):
            log.info(
                "no requests for %g s: loading %s", self._hook.after_s, ", ".join(self._hook.load)
            )
            self._loader.preload(self._hook.load)
