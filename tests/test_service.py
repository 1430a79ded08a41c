from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event as Flag

from llmsnap.config import Config, advice_on, load, load_with_advice
from llmsnap.configfile import look
from llmsnap.errors import ConfigError, Draining, StartFailed, UnknownModel
from llmsnap.launchers import LaunchSpec, Output
from llmsnap.models import State
from llmsnap.service import Service
from llmsnap.statedir import StateDir
from llmsnap.telemetry import (
    ConfigReload,
    Event,
    ModelPreloaded,
    ProcessStateChanged,
    ProfileChanged,
    SwapFinished,
)
from tests.fakes.launcher import FakeHandle, FakeLauncher
from tests.parity import parity

TEXT = """
startPort: 17000
logToStdout: none
models:
  a: {cmd: "serve --port ${PORT}", checkEndpoint: none}
  b: {cmd: "serve --port ${PORT}", checkEndpoint: none}
"""


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(TEXT)
        self.launcher = FakeLauncher()
        self.events: list[Event] = []
        self.came = Flag()
        self.services: list[Service] = []
        self.renew()

    def renew(self, config: Config | None = None, **more: Any) -> Service:
        """Make a service of the file, as llmsnap does when it starts."""
        launchers = {"local": self.launcher}
        self.service = Service(config or load(str(self.path)), launchers=launchers, **more)
        self.service.rest_s = 0.001
        self.service.bus.subscribe(Event, self._note)
        self.services.append(self.service)
        return self.service

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self.came.set()

    def wait_for(self, fact) -> None:
        while not fact():
            self.came.clear()
            assert self.came.wait(10), self.events

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if type(event) is kind]

    def edit(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr("llmsnap.models.health.UNCHECKED_S", 0.001)


@pytest.fixture
def unopened(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "config.yaml")
    yield made
    for service in [*made.services, made.service]:
        service.close(0)


@pytest.fixture
def bench(unopened: Bench) -> Bench:
    unopened.service.open()
    unopened.service.open()
    return unopened


def test_a_load_is_told_on_the_bus_and_kept(bench: Bench) -> None:
    service = bench.service
    assert service.state("a") is State.STOPPED
    service.driver.load("a")
    assert service.state("a") is State.READY
    assert [event.new for event in bench.of(ProcessStateChanged)] == ["starting", "ready"]
    (swap,) = service.telemetry.swaps
    assert (swap.target, swap.kind, swap.outcome, swap.reason) == ("a", "start", "done", "load")
    assert bench.of(SwapFinished) == [swap]
    assert bench.launcher.handles[0].spec.cmd == "serve --port 17000"
    bench.launcher.handles[0].exit(1)
    bench.wait_for(lambda: bench.service.state("a") is State.STOPPED)
    bench.service.driver.load("a")
    assert len(bench.launcher.handles) == 2


def test_preloads_are_told_as_they_end(unopened: Bench) -> None:
    bench = unopened
    bench.edit("models:", "hooks: {on_startup: {preload: [b, a]}}\nmodels:")
    start = bench.launcher.start

    def only_b(spec: LaunchSpec, output: Output, cancelled: Flag) -> FakeHandle:
        if spec.model_id == "a":
            raise StartFailed("a: no")
        return start(spec, output, cancelled)

    bench.launcher.start = only_b
    bench.renew().open()
    bench.wait_for(lambda: len(bench.of(ModelPreloaded)) == 2)
    done, failed = bench.of(ModelPreloaded)
    swaps = {swap.target: swap.swap_id for swap in bench.of(SwapFinished)}
    assert (done.model_id, done.success, done.swap_id) == ("b", True, 1)
    assert (failed.model_id, failed.success, failed.reason) == ("a", False, "a: no")
    assert failed.swap_id == swaps["a"]


@parity("Reload", "a reload stops every model", "only models whose process changes are restarted")
def test_a_reload_keeps_what_did_not_change(bench: Bench) -> None:
    bench.service.driver.load("a")
    before = bench.service.runtime
    bench.edit('a: {cmd: "serve --port ${PORT}"', 'a: {ttl: 60, cmd: "serve --port ${PORT}"')
    changes = bench.service.reload()
    assert (changes.hot, changes.unchanged) == (("a",), ("b",))
    assert bench.service.runtime is not before
    assert bench.service.state("a") is State.READY
    assert bench.service.process("a").settings.ttl_s == 60
    assert [event.phase for event in bench.of(ConfigReload)] == ["start", "end"]


def test_a_reload_stops_what_changed_or_went_and_the_next_start_is_new(bench: Bench) -> None:
    bench.service.driver.load("a")
    bench.edit('a: {cmd: "serve', 'a: {cmd: "serve --new')
    assert bench.service.reload().restart == ("a",)
    bench.wait_for(lambda: bench.service.state("a") is State.STOPPED)
    bench.service.driver.load("a")
    assert bench.launcher.handles[1].spec.cmd == "serve --new --port 17000"
    bench.edit('  a: {cmd: "serve --new --port ${PORT}", checkEndpoint: none}\n', "")
    assert bench.service.reload().removed == ("a",)
    bench.wait_for(bench.launcher.handles[1].exited.is_set)
    with pytest.raises(UnknownModel):
        bench.service.driver.load("a")


def profiles(bench: Bench, *names: str, first: str = "") -> None:
    """Write a file with the profiles *names* and reload it."""
    text = bench.path.read_text().partition("\nprofiles:")[0]
    pins = "".join(f"  {name}: {{pins: {{x: a}}}}\n" for name in names)
    hook = f"hooks: {{on_startup: {{profile: {first}}}}}\n" if first else ""
    bench.path.write_text(f"{text}\nprofiles:\n{pins}{hook}")
    bench.service.reload()


@parity("Profiles", "a reload drops the active profile", "it survives while it exists")
def test_a_reload_keeps_the_active_profile_where_it_still_exists(bench: Bench) -> None:
    active: list[str] = []
    for activated, names, first in (
        (None, "work away", ""),
        ("work", "work away new", ""),
        (None, "work away", "away"),
        ("", "work away new", "away"),
        ("new", "work away", "away"),
        (None, "work", ""),
    ):
        if activated is not None:
            bench.service.activate_profile(activated)
        profiles(bench, *names.split(), first=first)
        active.append(bench.service.runtime.profile)
    assert active == ["", "work", "away", "", "away", ""]
    changes = [event.name for event in bench.of(ProfileChanged)]
    assert changes == ["work", "away", "", "new", "away", ""]


@parity("Profiles", "`hooks.on_startup.profile` is active from the start")
@parity("Profiles", "a restart forgets the active profile", "it is remembered; the hook wins")
@pytest.mark.parametrize(
    ("activated", "names", "hook", "active"),
    [
        ("work", "work away", "", "work"),
        ("", "work away", "", ""),
        ("work", "away", "", ""),
        ("work", "work away", "away", "away"),
    ],
)
def test_the_active_profile_outlives_a_restart(
    unopened: Bench, tmp_path: Path, activated: str, names: str, hook: str, active: str
) -> None:
    bench, state = unopened, StateDir(tmp_path)
    for name in ("work", activated):
        bench.renew(state=state).open()
        profiles(bench, "work", "away")
        bench.service.activate_profile(name)
        bench.service.close(0)
    bench.renew(state=state)
    profiles(bench, *names.split(), first=hook)
    bench.renew(state=state).open()
    assert bench.service.runtime.profile == active


def test_what_a_dead_llmsnap_left_is_stopped_and_told_before_anything_starts(
    unopened: Bench, caplog
) -> None:
    unopened.launcher.leftovers = ["pid 7 of model a"]
    unopened.service.open()
    assert "stopped what an earlier run left behind: pid 7 of model a" in caplog.text


def test_variables_of_keys_are_withheld_from_models_those_of_before_too(
    unopened: Bench, monkeypatch
) -> None:
    monkeypatch.setenv("OLD_KEY", "old")
    monkeypatch.setenv("NEW_KEY", "new")
    bench = unopened
    bench.edit("models:", "apiKeys: ['${env.OLD_KEY}']\nmodels:")
    bench.renew().open()
    assert bench.launcher.withheld == {"OLD_KEY"}
    bench.edit("OLD_KEY", "NEW_KEY")
    bench.service.reload()
    assert bench.launcher.withheld == {"OLD_KEY", "NEW_KEY"}
    bench.service.close(0)
    assert bench.launcher.is_closed


def test_a_reload_says_what_only_a_restart_does(bench: Bench, caplog) -> None:
    origin = "uiOrigin: separate\nupstream: {origin: 8081}\n"
    bench.edit("models:", f"{origin}models:")
    bench.service.reload()
    assert "upstream.origin is opened by a restart only" in caplog.text
    caplog.clear()
    bench.edit("8081}", "':8081'}\nlogLevel: warn")
    bench.service.reload()
    assert "restart" not in caplog.text


@parity("Reload", "a faulty file changes nothing")
def test_a_refused_reload_changes_nothing_and_is_remembered(bench: Bench, caplog) -> None:
    before = bench.service.runtime
    bench.edit("startPort: 17000", "startPort: -1")
    with pytest.raises(ConfigError):
        bench.service.reload()
    assert bench.service.runtime is before
    assert "startPort" in str(bench.service.config_status.problems[0])
    assert bench.of(ConfigReload)[-1].phase == "failed"
    bench.edit("startPort: -1", "startPort: 17000")
    bench.service.reload()
    assert bench.service.config_status.problems == ()


EMPTY = {
    "nothing": "",
    "comments": "# models: {}\n",
    "document": "---\n...\n",
    "no models": "startPort: 17000\n",
    "models of nothing": "models:\n",
    "misspelt": "model:\n  a: {cmd: x}\n",
}


@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("found", ["asked for", "watched"])
def test_a_file_without_models_is_no_order_to_stop_them(bench, text, found) -> None:
    bench.service.driver.load("a")
    before = bench.service.runtime
    bench.path.write_text(text)
    with pytest.raises(ConfigError, match=r"models: \{\}"):
        bench.service.reload(None if found == "asked for" else look(str(bench.path)))
    assert bench.service.runtime is before
    assert bench.service.state("a") is State.READY
    assert bench.of(ConfigReload)[-1].phase == "failed"
    bench.path.unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        bench.service.reload()
    assert bench.service.state("a") is State.READY
    bench.path.write_text("models: {}\n")
    assert bench.service.reload().removed == ("a", "b")
    bench.wait_for(bench.launcher.handles[0].exited.is_set)


def test_what_a_watcher_found_is_looked_at_again_when_it_changed_since(bench: Bench) -> None:
    stale = look(str(bench.path))
    bench.edit("  a: {cmd", "  c: {cmd")
    bench.service.reload(stale)
    assert set(bench.service.runtime.config.models) == {"b", "c"}


def test_an_open_server_that_others_reach_is_warned_of_at_start_and_when_keys_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llmsnap.service.exposed_addresses", lambda: ["0.0.0.0:8080"])

    def reload(keys: str) -> bool:
        caplog.clear()
        bench.path.write_text(f"{keys}\n{TEXT}")
        bench.service.reload()
        return "no apiKeys: every client that reaches 0.0.0.0:8080" in caplog.text

    texts = ("apiKeys: [a-key-of-some-length]", "apiKeys: []", "apiKeys: []")
    assert [reload(keys) for keys in texts] == [False, True, False]
    caplog.clear()
    bench.renew().open()
    assert "no apiKeys" in caplog.text


@parity(
    "Files and deployments",
    "mistakes that are no errors pass in silence",
    "one warning each, at start and reload, in the API and in the UI",
)
def test_advice_on_the_configuration_is_logged_and_kept_at_start_and_at_each_reload(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.path.write_text(f"colour: red\n{TEXT}")
    loaded = load_with_advice(str(bench.path))
    bench.renew(loaded.config, advice=advice_on(loaded)).open()
    assert f"configuration: {bench.path}:1:1: colour: unknown key" in caplog.text
    caplog.clear()
    bench.service.reload()
    assert caplog.text.count("colour: unknown key") == 1
    (found,) = bench.service.config_status.advice
    assert (found.where, found.line) == ("colour", 1)
    bench.path.write_text(TEXT)
    bench.service.reload()
    assert bench.service.config_status.advice == ()


def test_after_close_everything_is_refused_and_stopped(bench: Bench) -> None:
    bench.service.check_accepting()
    bench.service.driver.load("a")
    ended: list[str] = []

    class Feed:
        def end(self) -> None:
            ended.append("feed")

    bench.service.feeds.add(Feed())
    bench.service.close(0)
    assert ended == ["feed"]
    assert bench.launcher.handles[0].exited.is_set()
    with pytest.raises(Draining):
        bench.service.check_accepting()
    with pytest.raises(Draining):
        bench.service.driver.load("b")
