import json

import pytest

from llmsnap.commands import load, models
from llmsnap.commands.client import ServerClient
from llmsnap.commands.load import live_text, plain_text
from llmsnap.commands.models import Model, overview
from llmsnap.errors import CommandFailed, KeyRefused, NoSuchModel, StartFailed
from tests.commands.conftest import Running, running
from tests.commands.test_terminal import Screen


def test_all_models_are_told_to_an_admin(server: Running) -> None:
    server.service.driver.load("llama")
    coder, llama = overview(ServerClient(server.url))
    assert (coder.model, coder.state, coder.is_stopped) == ("coder", "stopped", True)
    assert coder.usual_s is None
    assert (llama.state, llama.ttl_s, llama.in_flight, llama.waiting) == ("ready", 300, 0, 0)
    assert llama.usual_s is not None
    assert 0 < llama.idle_in_s <= 300
    assert llama.is_called("first")
    assert not llama.is_called("coder")


def run_ps(server: Running, *argv: str, key: str = "") -> list[str]:
    return server.run(models.ps, *argv, key=key).splitlines()


def test_what_runs_is_a_table_or_a_document_for_programs(server: Running) -> None:
    assert run_ps(server) == ["MODEL  STATE  SINCE  TTL  IN FLIGHT  QUEUE"]
    server.service.driver.load("llama")
    (head, row) = run_ps(server)
    assert row.startswith("llama  ready  ")
    assert row.endswith("  5 min, 5 min left  0          0")
    assert head.index("IN FLIGHT") == row.rindex("0  ")
    found = [line.split()[:2] for line in run_ps(server, "--all")[1:]]
    assert found == [["coder", "stopped"], ["llama", "ready"]]
    assert run_ps(server, "-q") == ["llama"]
    assert run_ps(server, "-aq") == ["coder", "llama"]
    (llama,) = json.loads(server.run(models.ps, "--json"))["models"]
    assert list(llama) == list(models.PS_FIELDS)
    assert (llama["model"], llama["state"], llama["ttl_s"]) == ("llama", "ready", 300)


def test_a_key_that_sees_less_is_told_so(guarded, capsys) -> None:
    guarded.service.driver.load("llama")
    with pytest.raises(KeyRefused):
        overview(ServerClient(guarded.url, "guest"))
    (_, row) = run_ps(guarded, "--all", key="guest")
    assert (row.split()[:2], "  5 min" in row) == (["llama", "ready"], True)
    assert "stopped models are not told" in capsys.readouterr().err
    assert len(run_ps(guarded, "--all", key="boss")) == 3
    assert not capsys.readouterr().err


SLEEPER = """
    models:
      s:
        cmd: serve
        proxy: MODEL
        checkEndpoint: none
        sleepMode: enable
        sleepEndpoints: [{endpoint: /sleep}]
        wakeEndpoints: [{endpoint: /wake_up}]
"""


def test_a_model_that_is_stopped_or_asleep_already_needs_nothing() -> None:
    with running(SLEEPER) as server:
        for state in ("stopped", "asleep"):
            assert server.run(models.sleep, "s") == f"s: {state}\n"
            server.service.driver.load("s")
            server.run(models.sleep, "s", "--now")
            assert server.states() == {"s": "asleep"}
        assert "/sleep" in server.calls
        server.service.driver.load("s")
        server.service.driver.forbid_sleep("s")
        with pytest.raises(CommandFailed, match="does not sleep any more: its answers after wakes"):
            server.run(models.sleep, "s")


def test_one_or_all_are_stopped(server: Running) -> None:
    server.service.driver.load("llama")
    assert server.run(models.unload, "--drain", "first") == "first: stopped\n"
    assert server.states()["llama"] == "stopped"
    with pytest.raises(CommandFailed, match="cannot sleep: set sleepMode"):
        server.run(models.sleep, "llama")
    for command in (models.sleep, models.unload):
        with pytest.raises(NoSuchModel):
            server.run(command, "x")
    unload, profile = models.unload, models.profile
    for argv in ((unload,), (unload, "llama", "--all"), (profile, "desk", "--none")):
        with pytest.raises(SystemExit, match=r"^2$"):
            server.run(*argv)
    server.service.driver.load("coder")
    assert server.run(models.unload, "--all") == "all models: stopped\n"
    assert set(server.states().values()) == {"stopped"}


WITH_PROFILES = """
    models: {llama: {cmd: serve, proxy: MODEL, checkEndpoint: none}}
    profiles:
      desk: {description: At the desk, pins: {gpt: llama}}
      night: {pins: {a: llama, b: }}
"""


def test_a_server_without_profiles_says_so(server: Running) -> None:
    assert server.run(models.profile) == "the configuration has no profiles\n"


def test_a_profile_is_activated_listed_and_given_up() -> None:
    with running(WITH_PROFILES) as server:
        assert server.run(models.profile, "night") == "active profile: night\n"
        assert [line.split() for line in server.run(models.profile).splitlines()] == [
            ["PROFILE", "ACTIVE", "PINS", "DESCRIPTION"],
            ["desk", "-", "1", "At", "the", "desk"],
            ["night", "yes", "2"],
        ]
        assert json.loads(server.run(models.profile, "--json"))["active"] == "night"
        assert server.run(models.profile, "--none") == "active profile: none\n"
        assert server.service.runtime.profile == ""
        with pytest.raises(NoSuchModel, match="did you mean desk"):
            server.run(models.profile, "desc")


def test_a_load_is_told_when_the_model_is_ready_and_on_a_terminal_in_one_line(server) -> None:
    said = server.run(load.main, "first").splitlines()
    assert server.states()["llama"] == "ready"
    assert said[-1].startswith("first: ready after ")
    shown = server.run(load.main, "coder", out=Screen())
    assert shown.count("\n") == 1
    assert "coder: \x1b[32mready\x1b[0m after " in shown
    assert server.run(load.main, "--no-wait", "llama") == "llama: asked for\n"


def test_a_failure_is_told_in_the_servers_words(server: Running, guarded: Running) -> None:
    assert server.run(load.main, "--quiet", "coder") == ""
    with pytest.raises(NoSuchModel, match="did you mean coder"):
        server.run(load.main, "codr")
    with pytest.raises(KeyRefused, match="may not use /api/models/load"):
        guarded.run(load.main, "llama", key="guest")
    server.launcher.refuse = StartFailed("llama: command not found: serve")
    with pytest.raises(CommandFailed, match="command not found: serve"):
        server.run(load.main, "llama")


BUSY = "stopped: a is serving 1 request for 5 s"


def model(state: str, **more: object) -> Model:
    known = {"for_s": 3.0, "ttl_s": 0, "idle_in_s": None, "in_flight": 0, "waiting": 0}
    return Model(model="m", state=state, **{**known, **more})


@pytest.mark.parametrize(
    ("found", "plain", "live"),
    [
        (model("starting"), "starting", "starting for 3.0 s"),
        (
            model("starting", usual_s=12.0),
            "starting, usually 12 s",
            "starting [#####---------------] 3.0 s, 9.0 s left",
        ),
        (
            model("waking", usual_s=2.0),
            "waking, usually 2.0 s",
            "waking [####################] 3.0 s, usually 2.0 s",
        ),
        (model("stopped", why=BUSY.partition(": ")[2]), BUSY, f"{BUSY} (4.0 s)"),
        (model("ready"), "ready", "ready (4.0 s)"),
    ],
)
def test_what_is_said_on_the_way(found: Model, plain: str, live: str) -> None:
    assert plain_text(found) == plain
    assert live_text(found, 4.0) == live
