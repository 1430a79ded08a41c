import errno
import json
import os
import stat
from pathlib import Path

import pytest

from llmsnap.errors import StartFailed
from llmsnap.models import State
from llmsnap.routing import messages as msg
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Need
from llmsnap.routing.messages import ModelRules, SchedulerOptions
from llmsnap.routing.pools import Pool, Pooled
from llmsnap.routing.recording import (
    EVENT_TYPES,
    DecisionRecorder,
    RecordedError,
    Recording,
    decode,
    encode,
    recorded_name,
    replay,
)
from llmsnap.routing.residency import Groups, LoadKind
from llmsnap.routing.scheduler import Scheduler
from tests.routing.world import World, group, matrix

# --- record ---------------------------------------------------------------------------------------

EVENTS: list[msg.Event] = [
    msg.RequestArrived(1, "a", 2.5, never_swap=True),
    msg.RequestArrived(2, "a"),
    msg.WaiterGone(1),
    msg.LeaseReturned(1, "a"),
    msg.Idled(3, "a", State.ASLEEP, 0.25),
    msg.LoadHeld(3, "a", "gpu0 has 1.0 GiB free of 2.0 GiB"),
    msg.LoadDone(3, "a", LoadKind.WAKE, 0.5, (msg.Step("restore", 0.25),)),
    msg.LoadCancelled(3, "a", State.ASLEEP),
    msg.FilesChanged("a"),
    msg.Unload(4),
    msg.Unload(4, "a", drain=True),
    msg.PutToSleep(5, "a", drain=False),
    msg.SleepForbidden("b"),
    msg.Suspected("a"),
    msg.Checked(5, "a", works=False),
    msg.Load(6, "a"),
    msg.Preload(("a", "b")),
    msg.ConfigChanged(
        (ModelRules("a", ttl_s=5.0), ModelRules("b", can_sleep=True)),
        Groups([group("g", "a b", persistent=True)]),
        SchedulerOptions("fifo", 3.0, 0.0),
        frozenset("ab"),
        frozenset("c"),
    ),
    msg.ResidencyChanged(Groups([group("g", "a b")])),
    msg.ResidencyChanged(Pooled(Groups(), [Pool("farm", (Need("a", labels=("zone=1",)),))])),
    msg.Shutdown(10.0),
    msg.Tick(),
]

FAILURES: list[msg.Event] = [
    msg.Idled(3, "a", State.STOPPED, 0.25, StartFailed("a: no sleep")),
    msg.LoadFailed(3, "a", StartFailed("a: exited with code 1"), State.ASLEEP),
    msg.LoadFailed(3, "a", StartFailed("a: no machine was free"), unplaced=True),
    msg.CheckFailed("a", StartFailed("a: no such file")),
    msg.Exited(3, "a", RuntimeError("gone")),
]


def through_json(event: msg.Event) -> msg.Event:
    return decode(json.loads(json.dumps(encode(event))))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives(event: msg.Event) -> None:
    assert through_json(event) == event


@pytest.mark.parametrize("event", FAILURES, ids=lambda event: type(event).__name__)
def test_an_error_survives_as_type_and_text(event: msg.Event) -> None:
    read = through_json(event)
    assert isinstance(read.error, RecordedError)  # type: ignore[union-attr]
    assert encode(read) == encode(event)


def test_every_kind_of_event_is_covered() -> None:
    assert {recorded_name(type(event)) for event in [*EVENTS, *FAILURES]} == set(EVENT_TYPES)
    hot = {msg.RequestArrived, msg.LeaseReturned}
    assert hot | set(Scheduler()._handlers) == {type(event) for event in [*EVENTS, *FAILURES]}


def recording() -> list[str]:
    """A life with about every kind of effect in it."""
    lines: list[str] = []
    world = World("", max_hold_s=5.0)
    world.scheduler = DecisionRecorder(Scheduler(), lines.append)  # type: ignore[assignment]
    world.rules = {name: ModelRules(name, ttl_s=30.0, can_sleep=name == "a") for name in "abc"}
    world.residency = Groups([group("g", "a b c")])
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


def test_a_recording_of_an_earlier_version_replays_to_the_same_decisions() -> None:
    """Written when several events and effects had other class names."""
    lines = (Path(__file__).parent / "recorded" / "decisions-0.1.jsonl").read_text().splitlines()
    assert len(lines) > 40
    assert replay(lines) is None


def test_swaps_may_be_numbered_from_anywhere() -> None:
    lines: list[str] = []
    scheduler = Scheduler()
    recorder = DecisionRecorder(scheduler, lines.append)
    scheduler.count_from(500)
    scheduler.count_from(3)  # never backwards
    recorder.handle(msg.ConfigChanged((ModelRules("a"),), Groups(), SchedulerOptions()), 0.0)
    recorder.handle(msg.RequestArrived(1, "a"), 1.0)
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


@pytest.mark.parametrize(
    ("line", "words"),
    [('{"schema_version": 99}', "schema version"), (None, "Nonsense")],
)
def test_what_is_no_recording_is_refused(line: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replay([line]) if line else decode({"type": "Nonsense"})


# --- recording ------------------------------------------------------------------------------------


def test_lines_from_before_and_after_the_opening_are_kept_in_order(tmp_path: Path) -> None:
    recording = Recording(str(tmp_path / "decisions"))
    recording("first")
    recording.open()
    recording("second")
    assert (tmp_path / "decisions").read_text() == "first\nsecond\n", "each line is there at once"
    recording.close()
    recording.close()


@pytest.mark.parametrize("exists", [False, True])
def test_only_our_user_may_read_the_decisions(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "decisions"
    if exists:
        path.write_text("of an earlier run\n")
        path.chmod(0o644)
    before = os.umask(0)
    try:
        recording = Recording(str(path))
        recording.open()
        recording.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == ""


def test_a_device_keeps_its_mode() -> None:
    before = Path(os.devnull).stat().st_mode
    recording = Recording(os.devnull)
    recording.open()
    recording.close()
    assert Path(os.devnull).stat().st_mode == before


def test_a_full_disk_ends_the_recording_with_one_line(tmp_path: Path, caplog) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    recording = Recording("x")
    recording._file = Full()  # type: ignore[assignment]
    recording("line")
    assert recording._file is None
    assert caplog.text.count("No space left on device") == 1


def test_a_matrix_is_recorded_with_its_expressions() -> None:
    rules = matrix("a b c", "a: 2", s="2 of (a, b | c)", t="+s & c")
    rules = Matrix(rules.config, ["b"])
    event = msg.ConfigChanged((), rules, SchedulerOptions())
    recorded = json.loads(json.dumps(encode(event)))
    assert decode(recorded).residency == rules  # type: ignore[union-attr]
