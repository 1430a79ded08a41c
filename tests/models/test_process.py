from collections.abc import Iterator
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from llmsnap import errors
from llmsnap.config import Endpoint, HookCall, Hooks, LauncherConfig, ModelConfig
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
            health_check_timeout_s=30,
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

    def spawn_loads(self, count: int = 1) -> list:
        """Begin loads, and return once the server was started."""
        loads = [self.spawn(self.process.ensure_ready) for _ in range(count)]
        assert self.launcher.spawned.wait(3)
        return loads

    def serve(self) -> None:
        self.upstream.healthy.set()
        self.upstream.start()

    def load(self) -> None:
        self.serve()
        self.process.ensure_ready()

    def configure(self, **changes: object) -> None:
        self.process.configure(replace(self.settings, **changes), replaces=False)


@pytest.fixture
def bench(upstream: FakeUpstream, launcher: FakeLauncher) -> Iterator[Bench]:
    made = Bench(upstream, launcher)
    yield made
    for handle in launcher.handles:
        handle.stop_allowed.set()
    made.process.ensure_stopped()
    made.tasks.close()


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.load()
    return bench


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
    bench.configure(cmd="serve -mg ${DEVICE}", device=given)
    bench.process.place(placed)
    spec = bench.process.launch_spec()
    variables = dict(each.split("=", 1) for each in spec.env)
    assert (spec.cmd, variables.get("CUDA_VISIBLE_DEVICES")) == (cmd, visible)


def test_all_who_wait_share_one_start(bench: Bench) -> None:
    waiting = bench.spawn_loads(3)
    assert bench.process.state is State.STARTING
    bench.serve()
    gevent.joinall(waiting)
    assert [task.value for task in waiting] == [None, None, None]
    assert len(bench.launcher.handles) == 1
    assert bench.told == [State.STARTING, State.READY]
    assert bench.process.address.ip == "127.0.0.1"
    assert bench.upstream.calls == ["GET /health"], "one probe after the port opened"


def test_all_who_wait_share_the_error_of_a_failed_start(bench: Bench) -> None:
    waiting = bench.spawn_loads(3)
    bench.log.feed(b"loading\nout of memory\n")
    bench.launcher.handles[0].exit(3)
    gevent.joinall(waiting)
    for task in waiting:
        assert isinstance(task.value, errors.ChildExited)
        assert "exit code 3 while loading" in str(task.value)
        assert "out of memory" in errors.in_full(task.value)
        assert "out of memory" not in str(task.value)
    assert bench.process.state is State.STOPPED


def test_a_load_that_ran_out_of_memory_says_so_by_the_last_output(bench: Bench) -> None:
    (waiting,) = bench.spawn_loads()
    handle = bench.launcher.handles[0]
    handle.status = ExitStatus(1)
    handle.exited.set()
    gevent.idle()
    bench.log.feed(b"CUDA error: out of memory\n")
    handle.gone.set()
    waiting.join(10)
    assert isinstance(waiting.value, errors.OutOfMemory)
    shown = "m: out of memory while loading (CUDA out of memory): ended with exit code 1"
    assert str(waiting.value) == shown


def test_the_end_of_a_server_is_seen_by_who_asked_it(loaded: Bench) -> None:
    process, address = loaded.process, loaded.process.address
    assert process.wait_end(address, 0.01) is None
    asking = loaded.spawn(process.wait_end, address, 5.0)
    gevent.idle()
    loaded.launcher.handles[0].exit(9)
    asking.join(10)
    assert "exit code 9" in str(asking.value)
    assert process.state is State.STOPPED, "by then all others can see it"
    assert "exit code 9" in str(process.wait_end(address, 5.0)), "and it is not waited for again"
    process.ensure_ready()
    assert process.wait_end(process.address, 0.01) is None
    assert isinstance(process.wait_end(address, 0.01), errors.ChildExited), "of the run before"


def test_a_server_that_cannot_be_started_leaves_the_process_stopped(bench: Bench) -> None:
    bench.launcher.refuse = errors.StartFailed("m: command not found: serve")
    with pytest.raises(errors.StartFailed, match="not found"):
        bench.process.ensure_ready()
    assert bench.told == [State.STARTING, State.STOPPED]
    with pytest.raises(errors.NotReady):
        _ = bench.process.address


def test_the_wait_for_a_machine_is_part_of_a_load_that_fails_as_well(bench: Bench) -> None:
    bench.configure(runs_on=LauncherConfig("local", type="ray"))
    bench.launcher.refuse = errors.NoCapacity("m: no machine was free")
    with pytest.raises(errors.NoCapacity):
        bench.process.ensure_ready()
    bench.launcher.refuse = None
    found = [bench.process.load_steps]
    bench.load()
    found.append(bench.process.load_steps)
    assert [[name for name, _ in steps] for steps in found] == [["placing"], ["placing"]]


def test_a_server_that_never_gets_healthy_is_stopped(bench: Bench) -> None:
    bench.configure(health_check_timeout_s=0.1)
    bench.upstream.start()
    with pytest.raises(errors.HealthTimeout):
        bench.process.ensure_ready()
    assert bench.told == [State.STARTING, State.STOPPING, State.STOPPED]
    assert len(bench.launcher.handles[0].stops) == 1


@pytest.mark.parametrize("hangs", ["start", "GET /health", "POST /stuck"])
def test_a_stop_aborts_a_load_wherever_it_is(bench: Bench, hangs: str) -> None:
    with_hooks(bench, after_ready=(hook("/stuck"),), before_stop=(hook("/good"),))
    gate = bench.upstream.gates[hangs.rpartition(" ")[2]] = Event()
    if hangs != "start":
        bench.serve()
    (load,) = bench.spawn_loads()
    while hangs not in ["start", *bench.upstream.calls]:
        gevent.idle()
    bench.process.ensure_stopped("unloaded")
    load.join(3)
    assert isinstance(load.value, errors.LoadAborted)
    assert "unloaded" in str(load.value)
    assert bench.process.state is State.STOPPED
    assert "POST /good" not in bench.upstream.calls, "it was never ready"
    gate.set()


def test_a_crash_is_told_at_once_and_the_next_start_waits_for_its_remains(loaded: Bench) -> None:
    (first,) = loaded.launcher.handles
    first.status = ExitStatus(139)
    first.exited.set()
    loaded.wait_state(State.STOPPED)
    assert "exit code 139" in str(loaded.process.explain_exit())
    again = loaded.spawn(loaded.process.ensure_ready)
    gevent.idle()
    assert len(loaded.launcher.handles) == 1
    first.gone.set()
    again.join()
    assert len(loaded.launcher.handles) == 2


def test_a_failed_sleep_stops_the_server(loaded: Bench) -> None:
    loaded.upstream.statuses["/sleep2"] = 500
    why = "step 2 of 2 failed; it was stopped: POST /sleep2 answered"
    with pytest.raises(errors.SleepFailed, check=says(why)):
        loaded.process.ensure_asleep()
    assert loaded.process.state is State.STOPPED
    assert "GET /is_sleeping" in loaded.upstream.calls


@pytest.mark.parametrize("fault", ["/wake", "/bad", "died"])
def test_a_server_that_does_not_wake_is_started_anew(loaded: Bench, fault: str) -> None:
    with_hooks(loaded, after_wake=(hook("/bad", fails=True),))
    loaded.upstream.statuses["/bad"] = 200
    loaded.process.ensure_asleep()
    loaded.upstream.statuses[fault] = 500
    if fault == "died":
        loaded.launcher.handles[0].exit(1)
        loaded.wait_state(State.STOPPED)
    loaded.process.ensure_ready()
    assert loaded.process.state is State.READY
    assert len(loaded.launcher.handles) == 2
    assert loaded.process.load_trigger is Trigger.START


def test_sleep_of_a_loading_model_waits_for_the_load(bench: Bench) -> None:
    tasks = [*bench.spawn_loads(), bench.spawn(bench.process.ensure_asleep)]
    bench.serve()
    gevent.joinall(tasks)
    assert [task.value for task in tasks] == [None, None]
    assert bench.process.state is State.ASLEEP


def test_a_stopped_or_sleepless_model_cannot_sleep(bench: Bench) -> None:
    with pytest.raises(errors.NotReady):
        bench.process.ensure_asleep()
    bench.configure(can_sleep=False)
    with pytest.raises(errors.SleepNotConfigured):
        bench.process.ensure_asleep()


def test_a_retired_process_never_starts_again(loaded: Bench) -> None:
    loaded.process.retire("removed")
    assert loaded.process.state is State.SHUTDOWN
    with pytest.raises(errors.Draining):
        loaded.process.ensure_ready()


@pytest.mark.parametrize(
    ("replaces", "grace_s", "cmd_stop"), [(True, 10.0, ""), (False, 3.0, "polite")]
)
def test_new_settings_apply_at_once_or_with_the_next_server(
    loaded: Bench, replaces: bool, grace_s: float, cmd_stop: str
) -> None:
    new = replace(loaded.settings, cmd="serve --new", cmd_stop="polite", unload_timeout_s=3.0)
    loaded.process.configure(new, replaces=replaces)
    (first,) = loaded.launcher.handles
    assert first.grace_s == grace_s, "should llmsnap be killed meanwhile"
    loaded.process.ensure_stopped()
    assert first.stops == [(grace_s, cmd_stop)]
    loaded.process.ensure_ready()
    assert loaded.launcher.handles[1].spec.cmd == "serve --new"


def test_a_model_may_name_another_launcher_and_need_no_health_check(bench: Bench) -> None:
    other = FakeLauncher()
    settings = replace(bench.settings, check_endpoint=None)
    launchers = {"local": bench.launcher, "other": other}
    process = Process(settings, launchers, bench.log, bench._on_change)
    process.ensure_ready()
    process.configure(replace(settings, launcher="other"), replaces=True)
    process.ensure_stopped()
    process.ensure_ready()
    assert (process.state, bench.upstream.calls) == (State.READY, [])
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
    bench.configure(unload_timeout_s=limit_s, hooks=Hooks(**hooks))


def hook(path: str, *, fails: bool = False, timeout_s: float = 10.0) -> HookCall:
    return HookCall(Endpoint(path, timeout_s=timeout_s), fails=fails)


def test_hooks_are_called_at_their_moments_in_order(bench: Bench) -> None:
    names = ("after_ready", "after_wake", "before_sleep", "before_stop")
    bench.upstream.statuses |= {f"/{name}": 200 for name in names}
    with_hooks(bench, **{name: (hook("/good"), hook(f"/{name}")) for name in names})
    bench.load()
    bench.process.ensure_asleep()
    assert bench.process.state is State.ASLEEP
    bench.process.ensure_ready()
    assert bench.process.load_trigger is Trigger.WAKE
    assert len(bench.launcher.handles) == 1
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
    with pytest.raises(errors.StartFailed, check=says("afterReady step 1 of 2 failed: POST /bad")):
        bench.load()
    assert bench.process.state is State.STOPPED
    assert "POST /good" not in bench.upstream.calls


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
        steps = ["canary"] if starts == 1 else ["failed_wake", "failed_check"]
        assert [name for name, _ in process.load_steps] == steps
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


def test_a_server_that_dies_in_a_hook_is_stopped(loaded: Bench) -> None:
    with_hooks(loaded, before_stop=(hook("/stuck"),))
    gate = loaded.upstream.gates["/stuck"] = Event()
    stop = loaded.spawn(loaded.process.ensure_stopped)
    while "POST /stuck" not in loaded.upstream.calls:
        gevent.idle()
    loaded.launcher.handles[0].exit(9)
    stop.join(3)
    assert loaded.process.state is State.STOPPED
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
    assert (prompts.limit_s, 0.0 < grace_s <= 9.99) == (5.0, True)
    steps = (*bench.process.load_steps, *bench.process.leave_steps)
    assert [name for name, _ in steps] == ["restore", "save"]
    bench.load()
    bench.process.ensure_asleep()
    assert bench.process.leave_steps == (), "a sleep saves nothing"
