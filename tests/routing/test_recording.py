import errno
import json
import os
import stat
from pathlib import Path

import pytest

from llmsnap.errors import StartFailed
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
from llmsnap.routing.residency import Groups
from llmsnap.routing.scheduler import Scheduler
from tests.routing.world import World, group, matrix


class Told:
    """A recorder that keeps the events."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events: list[msg.Event] = []
        self.recorder = DecisionRecorder(Scheduler(), self.lines.append)

    def handle(self, event: msg.Event, now: float) -> list[msg.Effect]:
        self.events.append(event)
        return self.recorder.handle(event, now)


def tell_rare_events(world: World) -> None:
    world.refigure(Groups([group("g", "a b c")]))
    world.refigure(Pooled(Groups(), [Pool("farm", (Need("a", labels=("zone=1",)),))]))
    for event in (
        msg.FilesChanged("a"),
        msg.SleepForbidden("b"),
        msg.CheckFailed("a", StartFailed("a: no such file")),
        msg.LoadFailed(999, "a", StartFailed("a: no machine was free"), unplaced=True),
    ):
        world.tell(event)
    world.configure(restart=["a"])


def recording() -> Told:
    """A life with every kind of event in it, and about every kind of effect."""
    told = Told()
    sleeps = ModelRules("a", ttl_s=30.0, can_sleep=True)
    world = World("a b c", group("g", "a b c", persistent=True), max_hold_s=5.0, a=sleeps)
    world.scheduler = told  # type: ignore[assignment]
    world.configure(changed=["c"])
    world.models["a"].load_steps = (msg.Step("restore", 0.25),)
    world.preload("c", "b")
    world.request("a", 20.0, max_wait_s=90.0).after(3.0)
    world.leave(world.request("b"))
    world.models["b"].failures, world.models["b"].held_s = 1, 0.5
    for wait_s in (40.0, 10.0):
        world.request("b", 1.0).after(wait_s)
    world.suspect("b")
    world.run(1.0)
    world.sleep("a")
    world.load("c")
    world.run(5.0)
    world.crash("c")
    world.unload()
    world.run(5.0)
    world.request("a").after(0.5)
    world.unload("a")
    world.run(5.0)
    world.request("a", 0.0)
    tell_rare_events(world)
    world.shutdown(1.0)
    world.run(5.0)
    return told


def test_every_kind_of_event_survives_an_error_as_type_and_text() -> None:
    told = recording().events
    assert {recorded_name(type(event)) for event in told} == set(EVENT_TYPES)
    hot = {msg.RequestArrived, msg.LeaseReturned}
    assert hot | set(Scheduler()._handlers) == {type(event) for event in told}
    for event in told:
        read = decode(json.loads(json.dumps(encode(event))))
        assert encode(read) == encode(event)
        if getattr(event, "error", None) is None:
            assert read == event
        else:
            assert isinstance(read.error, RecordedError)  # type: ignore[union-attr]


def test_a_recording_replays_to_the_same_decisions() -> None:
    lines = recording().lines
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
    lines = recording().lines
    entry = json.loads(lines[4])
    entry["effects"] = [{"type": "ShutdownDone"}]
    lines[4] = json.dumps(entry)
    difference = replay(lines)
    assert difference
    assert difference.line == 5
    assert difference.recorded == [{"type": "ShutdownDone"}]


@pytest.mark.parametrize(
    ("line", "words"), [('{"schema_version": 99}', "schema version"), (None, "Nonsense")]
)
def test_what_is_no_recording_is_refused(line: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replay([line]) if line else decode({"type": "Nonsense"})


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
