from collections.abc import Iterator
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from llmsnap.config import Endpoint, HookCall, Hooks, ModelConfig
from llmsnap.errors import (
    ChildExited,
    Draining,
    HealthTimeout,
    LoadAborted,
    NotReady,
    OutOfMemory,
    SleepFailed,
    SleepNotConfigured,
    StartFailed,
    in_full,
)
from llmsnap.launchers import ExitStatus
from llmsnap.models.process import Process
from llmsnap.models.states import State, Trigger
from llmsnap.tasks import TaskGroup
from tests.fakes.errors import says
from tests.fakes.launcher import FakeLauncher
from tests.fakes.upstream import FakeUpstream


class Log:
    def __init__(self) -> None:
        self.text = b""

    def feed(self, data: bytes) -> None:
        self.text += data

    def tail(self, lines: int = 10) -> list[str]:
        return self.text.decode().splitlines()[-lines:]


class Bench:
    """A process over a fake launcher and a fake server, and what was told of it."""

    def __init__(self, upstream: FakeUpstream, launcher: FakeLauncher) -> None:
        self.upstream = upstream
        self.launcher = launcher
        self.log = Log()
        self.settings = ModelConfig(
            id="m",
            cmd="serve",
            proxy=upstream.url,
            health_check_timeout_s=3,
            can_sleep=True,
            sleep_endpoints=(Endpoint("/sleep"), Endpoint("/sleep2")),
            wake_endpoints=(Endpoint("/wake"),),
        )
        self.upstream.statuses = {"/sleep": 200, "/sleep2": 204, "/wake": 201}
        self.told: list[str] = []
        self.changed = Event()
        self.tasks = TaskGroup("test")
        self.process = Process(self.settings, {"local": launcher}, self.log, self._on_change)

    def _on_change(self, model_id: str, old: State, new: State, trigger: Trigger) -> None:
        self.told.append(new)
        self.changed.set()

    def wait_state(self, state: State) -> None:
        while self.process.state is not state:
            self.changed.clear()
            assert self.changed.wait(3), self.process

    def spawn(self, call, *args):
        def run() -> object:
            try:
                return call(*args)
            except Exception as error:  # noqa: BLE001 - handed to the test
                return error

        return self.tasks.spawn("call", run)

    def load(self) -> None:
        self.upstream.start()
        self.upstream.healthy.set()
        self.process.ensure_ready()


@pytest.fixture
def bench(upstream: FakeUpstream, launcher: FakeLauncher) -> Iterator[Bench]:
    made = Bench(upstream, launcher)
    yield made
    for handle in launcher.handles:
        handle.stop_allowed.set()
    made.process.ensure_stopped()
    made.tasks.close()


@pytest.mark.parametrize(
    ("given", "placed", "cmd", "visible"),
    [
        ("", "", "serve -mg 0", None),
        ("", "gpu2", "serve -mg 2", "2"),
        ("gpu1", "", "serve -mg 1", "1"),
        ("ram", "", "serve -mg 0", None),
    ],
)
def test_a_server_sees_the_gpu_alone_that_was_chosen_for_it(
    bench: Bench, given: str, placed: str, cmd: str, visible: str | None
) -> None:
    settings = replace(bench.settings, cmd="serve -mg ${DEVICE}", device=given)
    bench.process.configure(settings, replaces=False)
    bench.process.place(placed)
    spec = bench.process.launch_spec()
    variables = dict(each.split("=", 1) for each in spec.env)
    assert (spec.cmd, variables.get("CUDA_VISIBLE_DEVICES")) == (cmd, visible)


def test_all_who_wait_share_one_start(bench: Bench) -> None:
    waiting = [bench.spawn(bench.process.ensure_ready) for _ in range(3)]
    assert bench.launcher.spawned.wait(3)
    assert bench.process.state is State.STARTING
    bench.upstream.start()
    bench.upstream.healthy.set()
    gevent.joinall(waiting)
    assert [task.value for task in waiting] == [None, None, None]
    assert len(bench.launcher.handles) == 1
    assert bench.told == [State.STARTING, State.READY]
    assert bench.process.address.ip == "127.0.0.1"
    assert bench.upstream.calls == ["GET /health"], "one probe after the port opened"


def test_all_who_wait_share_the_error_of_a_failed_start(bench: Bench) -> None:
    waiting = [bench.spawn(bench.process.ensure_ready) for _ in range(3)]
    assert bench.launcher.spawned.wait(3)
    bench.log.feed(b"loading\nout of memory\n")
    bench.launcher.handles[0].exit(3)
    gevent.joinall(waiting)
    for task in waiting:
        assert isinstance(task.value, ChildExited)
        assert "exit code 3 while loading" in str(task.value)
        assert "out of memory" in in_full(task.value)
        assert "out of memory" not in str(task.value)
    assert bench.process.state is State.STOPPED


def test_a_load_that_ran_out_of_memory_says_so_by_the_last_output(bench: Bench) -> None:
    waiting = bench.spawn(bench.process.ensure_ready)
    assert bench.launcher.spawned.wait(3)
    handle = bench.launcher.handles[0]
    handle.status = ExitStatus(1)
    handle.exited.set()
    gevent.idle()
    bench.log.feed(b"CUDA error: out of memory\n")
    handle.gone.set()
    waiting.join(2)
    assert isinstance(waiting.value, OutOfMemory)
    shown = "m: out of memory while loading (CUDA out of memory): ended with exit code 1"
    assert str(waiting.value) == shown


def test_the_end_of_a_server_is_seen_by_who_asked_it(bench: Bench) -> None:
    bench.load()
    process, handle = bench.process, bench.launcher.handles[0]
    address = process.address
    assert process.wait_end(address, 0.01) is None
    asking = bench.spawn(process.wait_end, address, 5.0)
    gevent.idle()
    handle.exit(9)
    asking.join(2)
    assert "exit code 9" in str(asking.value)
    assert process.state is State.STOPPED, "by then everybody knows"
    assert "exit code 9" in str(process.wait_end(address, 5.0)), "and it is not waited for again"
    process.ensure_ready()
    assert process.wait_end(process.address, 0.01) is None
    assert isinstance(process.wait_end(address, 0.01), ChildExited), "of the run before"


def test_a_server_that_cannot_be_started_leaves_the_process_stopped(bench: Bench) -> None:
    bench.launcher.refuse = StartFailed("m: command not found: serve")
    with pytest.raises(StartFailed, match="not found"):
        bench.process.ensure_ready()
    assert bench.told == [State.STARTING, State.STOPPED]
    with pytest.raises(NotReady):
        _ = bench.process.address


def test_a_server_that_never_gets_healthy_is_stopped(bench: Bench) -> None:
    bench.process.configure(replace(bench.settings, health_check_timeout_s=0.1), replaces=False)
    bench.upstream.start()
    with pytest.raises(HealthTimeout, check=says("answered 503")):
        bench.process.ensure_ready()
    assert bench.told == [State.STARTING, State.STOPPING, State.STOPPED]
    assert len(bench.launcher.handles[0].stops) == 1


@pytest.mark.parametrize("probe_hangs", [False, True])
def test_a_stop_aborts_a_load(bench: Bench, probe_hangs: bool) -> None:
    gate = bench.upstream.gates["/health"] = Event()
    if probe_hangs:
        bench.upstream.start()
    load = bench.spawn(bench.process.ensure_ready)
    assert bench.launcher.spawned.wait(3)
    while probe_hangs and not bench.upstream.calls:
        gevent.idle()
    bench.process.ensure_stopped("unloaded")
    load.join()
    assert isinstance(load.value, LoadAborted)
    assert "unloaded" in str(load.value)
    assert bench.process.state is State.STOPPED
    gate.set()


def test_a_model_without_check_endpoint_is_ready_while_it_runs(bench: Bench) -> None:
    bench.process.configure(replace(bench.settings, check_endpoint=None), replaces=False)
    bench.process.ensure_ready()
    assert bench.process.state is State.READY
    assert bench.upstream.calls == []


def test_a_crash_while_ready_is_told_at_once(bench: Bench) -> None:
    bench.load()
    bench.launcher.handles[0].exit(139)
    bench.wait_state(State.STOPPED)
    assert "exit code 139" in str(bench.process.explain_exit())
    bench.process.ensure_ready()
    assert len(bench.launcher.handles) == 2


def test_a_start_waits_for_the_remains_of_the_child_before(bench: Bench) -> None:
    bench.load()
    first = bench.launcher.handles[0]
    first.exited.set()
    bench.wait_state(State.STOPPED)
    again = bench.spawn(bench.process.ensure_ready)
    gevent.idle()
    assert len(bench.launcher.handles) == 1
    first.gone.set()
    again.join()
    assert len(bench.launcher.handles) == 2


def test_it_sleeps_and_wakes_by_its_endpoints_in_order(bench: Bench) -> None:
    bench.load()
    bench.process.ensure_asleep()
    assert bench.process.state is State.ASLEEP
    assert bench.upstream.calls[1:] == ["POST /sleep", "POST /sleep2"]
    bench.process.ensure_ready()
    assert bench.upstream.calls[3:] == ["POST /wake", "GET /health"]
    assert bench.process.load_trigger is Trigger.WAKE
    assert len(bench.launcher.handles) == 1


def test_a_failed_sleep_stops_the_server(bench: Bench) -> None:
    bench.load()
    bench.upstream.statuses["/sleep2"] = 500
    with pytest.raises(
        SleepFailed, check=says("step 2 of 2 failed; it was stopped: POST /sleep2 answered")
    ):
        bench.process.ensure_asleep()
    assert bench.process.state is State.STOPPED
    assert "GET /is_sleeping" in bench.upstream.calls


def test_a_failed_wake_starts_the_server_anew(bench: Bench) -> None:
    bench.load()
    bench.process.ensure_asleep()
    bench.upstream.statuses["/wake"] = 500
    bench.process.ensure_ready()
    assert bench.process.state is State.READY
    assert len(bench.launcher.handles) == 2
    assert bench.process.load_trigger is Trigger.START


def test_a_server_that_dies_in_its_sleep_is_started_anew(bench: Bench) -> None:
    bench.load()
    bench.process.ensure_asleep()
    bench.launcher.handles[0].exit(1)
    bench.wait_state(State.STOPPED)
    bench.process.ensure_ready()
    assert len(bench.launcher.handles) == 2


def test_sleep_of_a_loading_model_waits_for_the_load(bench: Bench) -> None:
    load = bench.spawn(bench.process.ensure_ready)
    sleep = bench.spawn(bench.process.ensure_asleep)
    assert bench.launcher.spawned.wait(3)
    bench.upstream.start()
    bench.upstream.healthy.set()
    gevent.joinall([load, sleep])
    assert (load.value, sleep.value) == (None, None)
    assert bench.process.state is State.ASLEEP


def test_a_stopped_or_sleepless_model_cannot_sleep(bench: Bench) -> None:
    with pytest.raises(NotReady):
        bench.process.ensure_asleep()
    bench.process.configure(replace(bench.settings, can_sleep=False), replaces=False)
    with pytest.raises(SleepNotConfigured):
        bench.process.ensure_asleep()


def test_a_retired_process_never_starts_again(bench: Bench) -> None:
    bench.load()
    bench.process.retire("removed")
    assert bench.process.state is State.SHUTDOWN
    with pytest.raises(Draining):
        bench.process.ensure_ready()


def test_new_settings_that_replace_the_server_wait_for_its_end(bench: Bench) -> None:
    bench.load()
    new = replace(bench.settings, cmd="serve --new", cmd_stop="new stop")
    bench.process.configure(new, replaces=True)
    bench.process.ensure_stopped()
    assert bench.launcher.handles[0].stops == [(10.0, "")]
    bench.process.ensure_ready()
    assert bench.launcher.handles[1].spec.cmd == "serve --new"


def test_settings_of_a_running_server_apply_at_once(bench: Bench) -> None:
    bench.load()
    assert bench.launcher.handles[0].grace_s == bench.settings.unload_timeout_s
    new = replace(bench.settings, cmd_stop="polite", unload_timeout_s=3)
    bench.process.configure(new, replaces=False)
    assert bench.launcher.handles[0].grace_s == 3, "should llmsnap be killed meanwhile"
    bench.process.ensure_stopped()
    assert bench.launcher.handles[0].stops == [(3, "polite")]


def test_a_model_that_names_another_launcher_is_started_by_it(bench: Bench) -> None:
    other = FakeLauncher()
    process = Process(
        bench.settings, {"local": bench.launcher, "other": other}, bench.log, bench._on_change
    )
    bench.upstream.start()
    bench.upstream.healthy.set()
    process.ensure_ready()
    process.configure(replace(bench.settings, launcher="other"), replaces=True)
    process.ensure_stopped()
    process.ensure_ready()
    assert (len(bench.launcher.handles), len(other.handles)) == (1, 1)
    process.ensure_stopped()


@pytest.mark.parametrize(
    ("noted", "now", "changed"),
    [("a", "b", True), ("a", "a", False), ("a", None, False), (None, "b", False)],
)
def test_the_launcher_says_whether_what_a_server_is_made_of_has_changed(
    bench: Bench, noted: str | None, now: str | None, changed: bool
) -> None:
    bench.launcher.files = noted
    assert not bench.process.files_have_changed()
    bench.process.note_files()
    bench.launcher.files = now
    assert bench.process.files_have_changed() is changed


@pytest.mark.parametrize(
    ("settings", "listens"),
    [
        ({"cmd": "serve --port 8123"}, True),
        ({"cmd": "sleep infinity"}, False),
        ({"cmd": "./run.sh", "env": ("PORT=8123",)}, True),
        ({"cmd": "serve --port 8123", "check_endpoint": None}, False),
        ({"cmd": "sleep infinity", "proxy": "http://far"}, True),
    ],
)
def test_a_command_that_does_not_mention_its_port_need_not_have_it(
    launcher: FakeLauncher, settings: dict, listens: bool
) -> None:
    model = ModelConfig(**{"id": "m", "proxy": "http://127.0.0.1:8123", **settings})
    Process(model, {"local": launcher}, Log(), lambda *_: None).check_start()
    assert launcher.checked == [replace(launcher.checked[0], listens=listens)]


# --- hooks ----------------------------------------------------------------------------------------


def with_hooks(bench: Bench, *, limit_s: float = 10.0, **hooks: tuple[HookCall, ...]) -> None:
    bench.upstream.statuses |= {"/good": 200, "/bad": 500}
    settings = replace(bench.settings, unload_timeout_s=limit_s, hooks=Hooks(**hooks))
    bench.process.configure(settings, replaces=False)


def hook(path: str, *, fails: bool = False, timeout_s: float = 3.0) -> HookCall:
    return HookCall(Endpoint(path, timeout_s=timeout_s), fails=fails)


def test_hooks_are_called_at_their_moments_in_order(bench: Bench) -> None:
    names = ("after_ready", "after_wake", "before_sleep", "before_stop")
    bench.upstream.statuses |= {f"/{name}": 200 for name in names}
    with_hooks(bench, **{name: (hook("/good"), hook(f"/{name}")) for name in names})
    bench.load()
    bench.process.ensure_asleep()
    bench.process.ensure_ready()
    bench.process.ensure_stopped()
    calls = [call.removeprefix("POST /") for call in bench.upstream.calls]
    assert calls == [
        *("GET /health", "good", "after_ready"),
        *("good", "before_sleep", "sleep", "sleep2"),
        *("wake", "GET /health", "good", "after_wake"),
        *("good", "before_stop"),
    ]


def test_a_failed_call_is_logged_and_the_next_one_made(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("after_ready", "before_stop")
    with_hooks(bench, **{name: (hook("/bad"), hook("/good")) for name in names})
    bench.load()
    bench.process.ensure_stopped()
    assert bench.upstream.calls.count("POST /good") == 2
    assert "afterReady step 1 of 2 failed: POST /bad answered 500" in caplog.text
    assert "beforeStop step 1 of 2 failed" in caplog.text


def test_a_failed_call_may_fail_the_load(bench: Bench) -> None:
    with_hooks(bench, after_ready=(hook("/bad", fails=True), hook("/good")))
    with pytest.raises(StartFailed, check=says("afterReady step 1 of 2 failed: POST /bad")):
        bench.load()
    assert bench.process.state is State.STOPPED
    assert "POST /good" not in bench.upstream.calls


def test_a_failed_call_after_a_wake_starts_the_server_anew(bench: Bench) -> None:
    with_hooks(bench, after_wake=(hook("/bad", fails=True),))
    bench.load()
    bench.process.ensure_asleep()
    bench.process.ensure_ready()
    assert bench.process.load_trigger is Trigger.START


def test_wrong_answers_after_a_wake_start_the_server_anew(bench: Bench, caplog) -> None:
    faults = ["", "the server answered '#'"]

    class Check:
        def applies(self, model: ModelConfig) -> bool:
            return True

        def fault(self, *_: object) -> str:
            bench.upstream.calls.append("check")
            return faults.pop(0)

    launchers = {"local": bench.launcher}
    process = bench.process = Process(
        bench.settings, launchers, bench.log, bench._on_change, Check()
    )
    with_hooks(bench, after_wake=(hook("/warm"),))
    bench.load()
    for starts in (1, 2):
        process.ensure_asleep()
        process.ensure_ready()
        assert len(bench.launcher.handles) == starts
        assert bench.upstream.calls[-5 - starts :].count("check") == 1
        assert [name for name, _ in process.load_steps] == ["canary"][: 2 - starts]
    wakes = [call for call in bench.upstream.calls if call not in ("POST /sleep", "POST /sleep2")]
    assert wakes[1:5] == ["POST /wake", "GET /health", "POST /warm", "check"], "after the hook"
    assert "wrong answers after its wake: the server answered '#'" in caplog.text


def test_the_calls_before_a_stop_never_prevent_it(bench: Bench) -> None:
    with_hooks(bench, limit_s=0.2, before_stop=(hook("/stuck", fails=True), hook("/good")))
    bench.upstream.gates["/stuck"] = Event()
    bench.load()
    bench.process.ensure_stopped()
    assert bench.process.state is State.STOPPED
    assert "POST /good" not in bench.upstream.calls, "no time was left"
    bench.upstream.gates["/stuck"].set()


def test_a_server_that_dies_in_a_hook_is_stopped(bench: Bench) -> None:
    with_hooks(bench, before_stop=(hook("/stuck"),))
    gate = bench.upstream.gates["/stuck"] = Event()
    bench.load()
    stop = bench.spawn(bench.process.ensure_stopped)
    while "POST /stuck" not in bench.upstream.calls:
        gevent.idle()
    bench.launcher.handles[0].exit(9)
    stop.join(3)
    assert bench.process.state is State.STOPPED
    gate.set()


def test_a_load_that_is_aborted_in_a_hook_ends(bench: Bench) -> None:
    with_hooks(bench, after_ready=(hook("/stuck"),), before_stop=(hook("/good"),))
    gate = bench.upstream.gates["/stuck"] = Event()
    load = bench.spawn(bench.load)
    while "POST /stuck" not in bench.upstream.calls:
        gevent.idle()
    bench.process.ensure_stopped("unloaded")
    load.join(3)
    assert isinstance(load.value, LoadAborted)
    assert "POST /good" not in bench.upstream.calls, "it was never ready"
    gate.set()


# --- prompts that are kept ------------------------------------------------------------------------


class Prompts:
    """Stands in for PromptCaches, and for the one of a run: notes the calls."""

    command = "serve --slot-save-path /kept"

    def __init__(self, upstream: FakeUpstream) -> None:
        self.calls = upstream.calls
        self.limit_s = 0.0

    def run(self, settings: ModelConfig) -> "Prompts":
        return self

    def restore(self, *_: object) -> None:
        self.calls.append("restore")

    def save(self, _: object, limit_s: float) -> None:
        self.calls.append("save")
        self.limit_s = limit_s
        gevent.sleep(0.01)


def test_prompts_are_restored_last_and_saved_first_within_the_time_to_stop(bench: Bench) -> None:
    prompts = Prompts(bench.upstream)
    bench.process = Process(
        *(bench.settings, {"local": bench.launcher}, bench.log, bench._on_change),
        prompts=prompts,  # type: ignore[arg-type]  # the same methods
    )
    with_hooks(bench, after_ready=(hook("/good"),), before_stop=(hook("/good"),))
    bench.load()
    bench.process.ensure_stopped()
    assert bench.upstream.calls[-4:] == ["POST /good", "restore", "POST /good", "save"]
    (handle,) = bench.launcher.handles
    assert handle.spec.cmd == prompts.command
    ((grace_s, _),) = handle.stops
    assert (prompts.limit_s, 9.0 < grace_s <= 9.99) == (5.0, True)
    steps = (*bench.process.load_steps, *bench.process.leave_steps)
    assert [name for name, _ in steps] == ["restore", "save"]
    bench.load()
    bench.process.ensure_asleep()
    assert bench.process.leave_steps == (), "a sleep saves nothing"
