import json

import pytest

from llmsnap.errors import StartFailed
from llmsnap.models import State
from llmsnap.routing import messages as ev
from llmsnap.routing.plan import Plan
from llmsnap.routing.record import (
    EVENT_TYPES,
    RecordedError,
    Recorder,
    decode,
    encode,
    replay,
)
from llmsnap.routing.rules import ModelRules, Options, PolicyName
from llmsnap.routing.scheduler import Scheduler
from llmsnap.routing.swaps import LoadKind
from tests.routing.world import World, group

EVENTS: list[ev.Event] = [
    ev.Request(1, "a", 2.5, never_swap=True),
    ev.Request(2, "a"),
    ev.ClientGone(1),
    ev.LeaseReturned(1, "a"),
    ev.Idled(3, "a", State.ASLEEP, 0.25),
    ev.Loaded(3, "a", LoadKind.WAKE, 0.5),
    ev.LoadAborted(3, "a", State.ASLEEP),
    ev.FilesChanged("a"),
    ev.Unload(4),
    ev.Unload(4, "a", drain=True),
    ev.PutToSleep(5, "a", drain=False),
    ev.Load(6, "a"),
    ev.Preload(("a", "b")),
    ev.ConfigChanged(
        (ModelRules("a", ttl_s=5.0), ModelRules("b", can_sleep=True)),
        Plan([group("g", "a b", persistent=True)]),
        Options(PolicyName.FIFO, 3.0, 0.0),
        frozenset("ab"),
        frozenset("c"),
    ),
    ev.Shutdown(10.0),
    ev.Tick(),
]

FAILURES: list[ev.Event] = [
    ev.Idled(3, "a", State.STOPPED, 0.25, StartFailed("a: no sleep")),
    ev.LoadFailed(3, "a", StartFailed("a: exited with code 1"), State.ASLEEP),
    ev.CheckFailed("a", StartFailed("a: no such file")),
    ev.Exited(3, "a", RuntimeError("gone")),
]


def through_json(event: ev.Event) -> ev.Event:
    return decode(json.loads(json.dumps(encode(event))))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives(event: ev.Event) -> None:
    assert through_json(event) == event


@pytest.mark.parametrize("event", FAILURES, ids=lambda event: type(event).__name__)
def test_an_error_survives_as_type_and_text(event: ev.Event) -> None:
    read = through_json(event)
    assert isinstance(read.error, RecordedError)  # type: ignore[union-attr]
    assert encode(read) == encode(event)


def test_every_kind_of_event_is_covered() -> None:
    assert {type(event).__name__ for event in [*EVENTS, *FAILURES]} == set(EVENT_TYPES)


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        decode({"type": "Nonsense"})


def recording() -> list[str]:
    """A life with about every kind of effect in it."""
    lines: list[str] = []
    world = World("", max_hold_s=5.0)
    world.scheduler = Recorder(Scheduler(), lines.append)  # type: ignore[assignment]
    world.rules = {name: ModelRules(name, ttl_s=30.0, can_sleep=name == "a") for name in "abc"}
    world.plan = Plan([group("g", "a b c")])
    world.configure()
    world.preload("c", "b")
    world.request("a", 20.0)
    world.run(3.0)
    world.leave(world.request("b"))
    world.models["b"].failures = 1
    world.request("b", 1.0)
    world.run(40.0)
    world.request("b", 1.0)
    world.run(10.0)
    world.sleep("a")
    world.load("c")
    world.run(5.0)
    world.crash("c")
    world.unload()
    world.run(5.0)
    world.request("a")
    world.run(5.0)
    world.configure(restart=["a"])
    world.shutdown(1.0)
    world.run(5.0)
    return lines


def test_a_recording_replays_to_the_same_decisions() -> None:
    lines = recording()
    assert len(lines) > 30
    assert replay(lines) is None


def test_swaps_may_be_numbered_from_anywhere() -> None:
    lines: list[str] = []
    scheduler = Scheduler()
    recorder = Recorder(scheduler, lines.append)
    scheduler.count_from(500)
    scheduler.count_from(3)  # never backwards
    recorder.handle(ev.ConfigChanged((ModelRules("a"),), Plan(), Options()), 0.0)
    recorder.handle(ev.Request(1, "a"), 1.0)
    assert '"work":501' in lines[-1]
    assert json.loads(lines[0]) == {"schema_version": 1, "first_number": 500}
    assert replay(lines) is None


def test_the_first_difference_is_shown() -> None:
    lines = recording()
    entry = json.loads(lines[4])
    entry["effects"] = [{"type": "ShutdownDone"}]
    lines[4] = json.dumps(entry)
    difference = replay(lines)
    assert difference
    assert difference.line == 5
    assert difference.recorded == [{"type": "ShutdownDone"}]


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(ValueError, match="schema version"):
        replay(['{"schema_version": 99}'])
