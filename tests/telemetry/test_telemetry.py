"""The owner of all that is measured, and the history of states."""

import time
from pathlib import Path

import pytest

from llmsnap import telemetry as module
from llmsnap.config import loads
from llmsnap.errors import StoreUnavailable
from llmsnap.telemetry import Capture, CapturedBody, EventBus, ProcessStateChanged, SwapFinished
from llmsnap.telemetry.telemetry import KEPT_S, MAX_BARS, SWAPS_KEPT, StateHistory, Telemetry
from tests.fakes.calls import keep
from tests.fakes.clock import Clock
from tests.parity import parity
from tests.telemetry.test_prometheus import counted


def states(history: StateHistory, model_id: str = "a") -> list[str]:
    return [bar["state"] for bar in history.bars(model_id)]


def test_states_follow_each_other_and_the_last_is_open() -> None:
    history = StateHistory(wall=lambda: 10.0)
    history.know(["a"])
    history.note(ProcessStateChanged("a", "stopped", "starting", at=20.0))
    history.note(ProcessStateChanged("a", "starting", "ready", at=25.5))
    assert [tuple(bar.values()) for bar in history.bars("a")] == [
        ("stopped", 10_000, 20_000),
        ("starting", 20_000, 25_500),
        ("ready", 25_500, None),
    ]
    assert history.bars("b") == []


def test_neither_time_nor_a_crash_loop_fills_the_memory() -> None:
    clock = Clock()
    history = StateHistory(wall=clock)
    history.know(["a"])
    for number in range(2 * MAX_BARS):
        history.note(ProcessStateChanged("a", "x", str(number), at=1.0))
    assert len(states(history)) == MAX_BARS
    clock.now = KEPT_S + 100
    history.note(ProcessStateChanged("a", "x", "ready", at=50.0))
    assert states(history) == ["ready"], "what ended before the window is forgotten"
    history.note(ProcessStateChanged("a", "ready", "stopped", at=clock.now))
    ended_ms = int(clock.now * 1000)
    assert [bar["state"] for bar in history.bars("a", ended_ms)] == ["ready", "stopped"]
    assert [bar["state"] for bar in history.bars("a", ended_ms + 1)] == ["stopped"]


def test_models_come_and_go_with_the_configuration() -> None:
    history = StateHistory()
    history.know(["a", "b"])
    history.note(ProcessStateChanged("a", "stopped", "ready"))
    history.know(["a", "c"])
    assert states(history) == ["stopped", "ready"], "one that stays keeps its past"
    assert states(history, "c") == ["stopped"]
    history.note(ProcessStateChanged("b", "stopping", "stopped"))
    assert states(history, "b") == [], "one that is gone leaves nothing behind"


def observed(text: str = "", bus: EventBus | None = None) -> Telemetry:
    return Telemetry(loads(text, environ={}), bus or EventBus(), dict)


@pytest.fixture
def stored(tmp_path: Path):
    """Telemetry that keep what they see; each call is another run of the server."""
    opened = []

    def run(text: str = "", more: str = "", name: str = "x.db") -> Telemetry:
        for earlier in opened:
            earlier.close()
        opened.append(observed(f"store: {{path: {tmp_path / name}{more}}}\n{text}"))
        opened[-1].open()
        return opened[-1]

    yield run
    for one in opened:
        one.close()


def file_record(of: Telemetry, **facts) -> module.ActivityRecord:
    record_id, now = of.activity.take_id(), time.time_ns()
    record = module.ActivityRecord(id=record_id, status=200, ended_ns=now, **facts)
    of.activity.append(record)
    of.bus.publish(module.ActivityRecorded(record))
    return record


def requests_of(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    return counted(telemetry.metrics, "requests_total")


def swap(number: int, **facts) -> SwapFinished:
    return SwapFinished(swap_id=number, target="a", outcome="done", **facts)


def ids(of: Telemetry) -> list[int]:
    return [record.id for record in of.page().records]


def test_the_last_swaps_are_kept_and_found_by_how_many_had_ended():
    watched = observed()
    for number in range(1, 4):
        watched.bus.publish(swap(number))
    assert [one.swap_id for one in watched.swaps_after(1)] == [2, 3]
    assert watched.swaps_after(3) == watched.swaps_after(99) == []
    assert [one["id"] for one in watched.last_swaps(2)] == [2, 3]
    for number in range(4, SWAPS_KEPT + 11):
        watched.bus.publish(swap(number))
    assert (watched.swaps_ended, len(watched.swaps_after(0))) == (SWAPS_KEPT + 10, SWAPS_KEPT)
    assert [one.swap_id for one in watched.swaps_after(SWAPS_KEPT + 8)] == [509, 510]


def test_a_new_configuration_takes_effect_and_close_ends_it():
    watched = observed("models: {a: {cmd: x --port ${PORT}}}")
    for _ in range(5):
        file_record(watched)
    new = "models: {b: {cmd: x --port ${PORT}}}\nmetricsMaxInMemory: 2\ncaptureBuffer: 0"
    watched.configure(loads(new, environ={}))
    assert (ids(watched), watched.captures.enabled) == ([4, 3], False)
    assert (states(watched.states), states(watched.states, "b")) == ([], ["stopped"])
    watched.bus.publish(ProcessStateChanged("b", "stopped", "starting"))
    before = requests_of(watched)
    for _ in range(2):
        watched.close()
    watched.bus.publish(ProcessStateChanged("b", "starting", "ready"))
    file_record(watched)
    assert states(watched.states, "b") == ["stopped", "starting"]
    assert requests_of(watched) == before


def test_only_names_of_the_configuration_become_labels():
    models, peers = "models: {%s: {cmd: x --port ${PORT}}}\n", "peers: {p: {proxy: 'http://h', %s}}"
    watched = observed(models % "a" + peers % "models: [b]")
    for name in ("a", "b", "made-up", "a"):
        file_record(watched, model_id=name)
    assert requests_of(watched) == {("a", "200"): 2, ("b", "200"): 1, ("other", "200"): 1}
    watched.configure(loads(models % "made-up", environ={}))
    file_record(watched, model_id="made-up")
    assert requests_of(watched)["made-up", "200"] == 1


def test_records_and_swaps_of_all_runs_are_found_and_their_ids_go_on(stored):
    first = stored()
    file_record(first)
    first.bus.publish(swap(first.next_swap_id))
    second = stored()
    assert second.run != "" != first.run
    file_record(second)
    second.bus.publish(swap(second.next_swap_id))
    assert ids(second) == [1, 0]
    assert [one["id"] for one in second.last_swaps()] == [1, 2]
    assert second.swaps_ended == 1


def test_as_many_records_come_back_as_memory_holds_within_reason(stored, monkeypatch):
    first = stored()
    for _ in range(1200):
        file_record(first)
    assert len(stored("metricsMaxInMemory: 3").activity) == 3
    assert len(stored("metricsMaxInMemory: 5000").activity) == 1200
    monkeypatch.setattr("llmsnap.telemetry.telemetry.MOST_RESTORED", 10)
    last = stored("metricsMaxInMemory: 5000").activity
    assert [record.id for record in last.snapshot()] == list(range(1190, 1200))


def has_capture(of: Telemetry) -> list[bool]:
    return [record.has_capture for record in of.page().records]


def test_what_is_captured_is_known_of_stored_records_too(stored):
    watched = stored()
    for number in range(2):
        file_record(watched)
        keep(watched.captures, Capture(id=number, req_path="/", req_body=CapturedBody.of(b"x")))
    assert has_capture(watched) == [True, True]
    watched.captures.resize(2)
    assert has_capture(watched) == [True, False]
    assert has_capture(stored()) == [False, False]


def capture(of: Telemetry, text: bytes = b"x") -> int:
    record = file_record(of, has_capture=True)
    made = Capture(id=record.id, req_path="/", req_body=CapturedBody.of(text))
    keep(of.captures, made, of.recorder.policy.prepare)
    return record.id


def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@parity("Newer keys", "`store.captureDir` and `store.captureMaxMB` keep captures on disk")
def test_captures_on_disk_outlast_memory_and_the_run_until_the_oldest_leave(stored, tmp_path):
    folder = tmp_path / "captures"
    disk = f", captureDir: {folder}, captureMaxMB: 0.01"  # 10,485 bytes: the last three, as files
    first = stored("captureRedact: [pin]", disk)
    assert folder.stat().st_mode & 0o777 == 0o700
    old, new = capture(first, b'{"pin": 1234}' + b" " * 2000), capture(first, b"y" * 1000)
    first.captures.finish()
    first.captures.resize(1)
    assert (len(first.captures), ids(first)) == (0, [new, old])
    second = stored("", disk)
    assert has_capture(second) == [True, True]
    assert [record.has_capture for record in second.activity.snapshot()] == [True, True]
    assert second.capture(new).req_body.content() == b"y" * 1000
    assert second.capture(old).req_body.content().strip() == b'{"pin": "[REDACTED]"}'
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    newest = [capture(second, bytes([65 + n]) * 4000) for n in range(2)]
    second.captures.finish()
    third = stored("", disk)
    assert on_disk(folder) == [f"capture-{n}" for n in [new, *newest]]
    assert third.capture(old) is None
    assert has_capture(third) == [True, True, True, False]


def test_captures_of_another_store_and_unfinished_ones_are_deleted(stored, tmp_path):
    folder = tmp_path / "captures"
    disk = f", captureDir: {folder}"
    capture(stored("", disk))
    stored().close()
    (folder / "capture-0.part").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    other = stored("", disk, name="other.db")
    assert on_disk(folder) == ["notes.txt"]
    assert other.capture(0) is None


def test_a_disk_that_fails_costs_captures_and_nothing_else(stored, tmp_path, caplog):
    folder = tmp_path / "captures"
    telemetry = stored("", f", captureDir: {folder}")
    first = capture(telemetry)
    folder.rename(tmp_path / "away")
    second = capture(telemetry)
    again = stored("", f", captureDir: {folder}")
    assert caplog.text.count("captures are not written to") == 1
    assert [again.capture(number) for number in (first, second)] == [None, None]
    (tmp_path / "file").touch()
    refused = stored("", f", captureDir: {tmp_path / 'file'}")
    assert "captures are kept in memory only" in caplog.text
    assert refused.capture(capture(refused)) is not None
    torn = stored("", f", captureDir: {folder}")
    number = capture(torn)
    torn = stored("", f", captureDir: {folder}")
    (folder / f"capture-{number}").write_bytes(b"torn")
    assert torn.capture(number) is None


@pytest.mark.parametrize("fault", ["_read", "_insert"])
def test_a_store_that_fails_is_replaced_by_memory(stored, monkeypatch, fault: str):
    def fail(*_: object) -> None:
        raise StoreUnavailable("no")

    watched = stored()
    monkeypatch.setattr(watched.store, fault, fail)
    file_record(watched)
    watched.bus.publish(swap(1))
    watched.store.flush()
    assert watched.store.is_current is (fault == "_read")
    assert (ids(watched), [one["id"] for one in watched.last_swaps()]) == ([0], [1])
