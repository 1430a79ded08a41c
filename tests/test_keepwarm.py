"""When models are loaded and unloaded by the clock, and when there are no requests."""

from datetime import date, datetime, time, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest

from llmsnap import keepwarm
from llmsnap.config import Config, IdleHook, ModelConfig, ScheduleEntry
from llmsnap.errors import ProcessError
from llmsnap.keepwarm import KeepWarm, due_between, instant, next_due
from tests.drawn import cases

BERLIN = "Europe/Berlin"
DAILY = frozenset(range(7))
DAY = timedelta(days=1)


def entry(at: str, days: frozenset[int] = DAILY, tz: str = BERLIN, **what: tuple) -> ScheduleEntry:
    return ScheduleEntry(time.fromisoformat(at), days, tz=tz, **what)


def unix(text: str, tz: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).timestamp()


DUE = [
    ("08:00", DAILY, "2026-11-30T07:59:59", "2026-11-30T08:00"),
    ("08:00", DAILY, "2026-11-30T08:00", "2026-12-01T08:00"),
    ("08:00", frozenset(range(5)), "2026-12-04T09:00", "2026-12-07T08:00"),
    ("00:00", frozenset({6}), "2026-12-05T23:59", "2026-12-06T00:00"),
    # 2026-03-29: 02:00 to 03:00 do not exist; what is then is an hour later by the clock.
    ("02:30", DAILY, "2026-03-28T12:00", "2026-03-29T03:30"),
    ("02:30", DAILY, "2026-03-29T03:30", "2026-03-30T02:30"),
    ("03:00", DAILY, "2026-03-29T01:59", "2026-03-29T03:00"),
    # 2026-10-25: 02:00 to 03:00 come twice; the first of them counts.
    ("02:30", DAILY, "2026-10-25T01:00", "2026-10-25T02:30"),
    ("02:30", DAILY, "2026-10-25T02:31", "2026-10-26T02:30"),
    ("08:00", frozenset(), "2026-10-25T02:31", None),
]


def test_an_entry_is_due_once_a_day_also_when_the_clock_changes() -> None:
    found = [next_due(entry(at, days), unix(after)) for at, days, after, _ in DUE]
    assert found == [due and unix(due) for *_, due in DUE]


ZONES = ["", "UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]


@cases(60)
def test_each_chosen_day_is_due_exactly_once_in_order(chance: Random) -> None:
    days = frozenset(chance.sample(range(7), chance.randrange(1, 8)))
    at = time(chance.randrange(24), chance.randrange(60))
    daily = ScheduleEntry(at, days, tz=chance.choice(ZONES))
    # Mostly in the months in which clocks change somewhere.
    month = chance.choice((3, 4, 10, 11, 1 + chance.randrange(12)))
    first = date(chance.randrange(2024, 2028), month, 1 + chance.randrange(28))
    chosen = [day for day in (first + DAY * n for n in range(14)) if day.weekday() in days]
    now = instant(daily, first) - 0.5
    for day in chosen:
        due = next_due(daily, now)
        assert due == instant(daily, day)
        now = due


def test_of_several_entries_since_the_last_look_the_last_counts_for_each_model() -> None:
    schedule = [
        entry("23:00", unload=("a", "b")),
        entry("08:00", load=("a", "c")),
        entry("09:00", load=("d",)),
    ]
    night, morning = unix("2026-11-29T22:59"), unix("2026-11-30T08:30")
    assert due_between(schedule, night, morning) == (("a", "c"), ("b",))
    assert due_between(schedule, morning, morning + 60) == ((), ())
    assert due_between(schedule, unix("2026-11-30T07:59"), unix("2026-11-30T23:30")) == (
        ("c", "d"),
        ("a", "b"),
    )


class World:
    """A driver and two clocks for ``KeepWarm``, whose loop the test plays."""

    def __init__(self, now: str, *schedule: ScheduleEntry, hook: IdleHook | None = None) -> None:
        self.now = unix(now)
        self.busy: set[str] = set()
        self.done: list[str] = []
        self.fails = False
        clocks = (lambda: self.now,) * 2
        self.warm = KeepWarm(self, self.busy.__contains__, lambda: bool(self.busy), *clocks)
        self.warm._schedule, self.warm._hook = schedule, hook

    def preload(self, model_ids: tuple[str, ...]) -> None:
        self.done.append(f"load {' '.join(model_ids)}")

    def unload(self, model_id: str | None, *, drain: bool = False) -> None:
        assert drain
        if self.fails:
            raise ProcessError("it does not stop")
        self.done.append(f"unload {model_id}")

    def run(self, until: str) -> list[str]:
        """Wait and look as its loop does, and return what was done."""
        self.done.clear()
        end = unix(until)
        while self.now + (pause_s := self.warm.pause_s()) <= end:
            self.now += pause_s
            self.warm.check()
        self.now = end
        return self.done


@pytest.fixture(autouse=True)
def _long_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day has few looks."""
    monkeypatch.setattr(keepwarm, "LONGEST_SLEEP_S", 3600.0)


def test_models_are_loaded_and_unloaded_at_their_times_once_whatever_the_clock_does() -> None:
    load, unload = entry("08:00", load=("a", "b")), entry("23:00", unload=("a",))
    world = World("2026-11-30T07:00", load, unload)
    assert world.run("2026-11-30T07:59:59") == []
    assert world.run("2026-11-30T08:00") == ["load a b"]
    world.now = unix("2026-11-30T07:30")
    world.warm.check()
    assert world.run("2026-11-30T07:59") == []
    assert world.run("2026-12-01T08:00") == ["load a b", "unload a", "load a b"]


def test_a_model_with_requests_is_unloaded_after_them_unless_it_is_to_be_loaded_again() -> None:
    world = World("2026-11-30T22:59", entry("23:00", unload=("a",)), entry("23:05", load=("a",)))
    world.busy.add("a")
    assert world.run("2026-11-30T23:02") == []
    world.busy.clear()
    assert world.run("2026-11-30T23:03") == ["unload a"]
    world.busy.add("a")
    assert world.run("2026-12-01T23:05") == ["load a", "load a"]
    world.busy.clear()
    assert world.run("2026-12-01T23:30") == []


def test_a_model_that_does_not_stop_is_no_reason_to_stop_the_clock(caplog) -> None:
    world = World("2026-11-30T22:00", entry("23:00", unload=("a",)), entry("23:10", load=("b",)))
    world.fails = True
    assert world.run("2026-12-01T00:00") == ["load b"]
    assert caplog.text.count("could not be unloaded: it does not stop") == 1


def test_models_are_loaded_when_there_are_no_requests() -> None:
    world = World("2026-11-30T10:00", hook=IdleHook(600.0, ("a",)))
    assert world.run("2026-11-30T10:09") == []
    world.warm.note_request()
    assert world.run("2026-11-30T10:18") == []
    world.busy.add("long")
    assert world.run("2026-11-30T11:00") == []
    world.busy.clear()
    assert world.run("2026-11-30T11:15") == ["load a"]
    assert world.run("2026-11-30T20:00") == [], "once"


def test_what_is_configured_counts_from_then_on() -> None:
    world = World("2026-11-30T07:00")
    models = {"a": ModelConfig("a", "serve")}
    world.warm.configure(Config(models=models, schedule=(entry("08:00", load=("a",)),)))
    assert world.run("2026-11-30T09:00") == ["load a"]
    world.warm.configure(Config(models=models))
    assert world.run("2026-12-01T09:00") == []
    world.warm.close()
