import io
import json

import pytest

from llmsnap.commands import models
from llmsnap.commands.client import ServerClient
from llmsnap.commands.models import listed, overview
from llmsnap.errors import CommandFailed, KeyRefused, NoSuchModel
from tests.commands.conftest import Running, running


def test_all_models_are_told_to_an_admin(server: Running) -> None:
    server.service.driver.load("llama")
    coder, llama = overview(ServerClient(server.url))
    assert (coder.model, coder.state, coder.is_stopped, coder.usual_s) == (
        "coder",
        "stopped",
        True,
        None,
    )
    assert (llama.state, llama.ttl_s, llama.in_flight, llama.waiting) == ("ready", 300, 0, 0)
    assert llama.usual_s is not None
    assert 0 < llama.idle_in_s <= 300
    assert llama.is_called("first")
    assert not llama.is_called("coder")


def test_others_are_told_what_runs(guarded: Running) -> None:
    guarded.service.driver.load("llama")
    guest = ServerClient(guarded.url, "guest")
    with pytest.raises(KeyRefused):
        overview(guest)
    (llama,), is_all = listed(guest)
    assert not is_all
    assert (llama.model, llama.state, llama.ttl_s) == ("llama", "ready", 300)
    assert listed(ServerClient(guarded.url, "boss"))[1]


def run_ps(server: Running, *argv: str, key: str = "") -> list[str]:
    out = io.StringIO()
    environ = {**server.environ, "LLMSNAP_API_KEY": key}
    assert models.ps(argv, out, environ) == 0
    return out.getvalue().splitlines()


def test_what_runs_is_a_table(server: Running) -> None:
    assert run_ps(server) == ["MODEL  STATE  SINCE  TTL  IN FLIGHT  QUEUE"]
    server.service.driver.load("llama")
    (head, row) = run_ps(server)
    assert row.startswith("llama  ready  0.")
    assert row.endswith("  5 min, 5 min left  0          0")
    assert head.index("IN FLIGHT") == row.rindex("0  ")
    found = [line.split()[:2] for line in run_ps(server, "--all")[1:]]
    assert found == [["coder", "stopped"], ["llama", "ready"]]
    assert run_ps(server, "-q") == ["llama"]
    assert run_ps(server, "-aq") == ["coder", "llama"]


def test_a_document_for_programs(server: Running) -> None:
    server.service.driver.load("coder")
    (coder,) = json.loads("\n".join(run_ps(server, "--json")))["models"]
    assert list(coder) == list(models.PS_FIELDS)
    assert (coder["model"], coder["state"], coder["ttl_s"]) == ("coder", "ready", 0)


def test_a_key_that_sees_less_is_told_so(guarded, capsys) -> None:
    guarded.service.driver.load("llama")
    assert len(run_ps(guarded, "--all", key="guest")) == 2
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
            out = io.StringIO()
            assert models.sleep(["s"], out, server.environ) == 0
            assert out.getvalue() == f"s: {state}\n"
            server.service.driver.load("s")
            assert models.sleep(["s", "--now"], io.StringIO(), server.environ) == 0
            assert server.states() == {"s": "asleep"}
        assert "/sleep" in server.calls


def run_unload(server: Running, *argv: str) -> str:
    out = io.StringIO()
    assert models.unload(argv, out, server.environ) == 0
    return out.getvalue()


def test_one_or_all_are_stopped(server: Running) -> None:
    server.service.driver.load("llama")
    assert run_unload(server, "--drain", "first") == "first: stopped\n"
    assert server.states()["llama"] == "stopped"
    with pytest.raises(CommandFailed, match="cannot sleep: set sleepMode"):
        models.sleep(["llama"], io.StringIO(), server.environ)
    with pytest.raises(NoSuchModel):
        models.sleep(["x"], io.StringIO(), server.environ)
    server.service.driver.load("coder")
    assert run_unload(server, "--all") == "all models: stopped\n"
    assert set(server.states().values()) == {"stopped"}


@pytest.mark.parametrize("argv", [[], ["llama", "--all"]])
def test_one_or_all_has_to_be_said(server: Running, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_unload(server, *argv)
    assert caught.value.code == 2


def test_an_unknown_model_cannot_be_unloaded(server: Running) -> None:
    with pytest.raises(NoSuchModel):
        run_unload(server, "x")


WITH_PROFILES = """
    models: {llama: {cmd: serve, proxy: MODEL, checkEndpoint: none}}
    profiles:
      desk: {description: At the desk, pins: {gpt: llama}}
      night: {pins: {a: llama, b: }}
"""


def run_profile(server: Running, *argv: str) -> str:
    out = io.StringIO()
    assert models.profile(argv, out, server.environ) == 0
    return out.getvalue()


def test_a_profile_is_activated_listed_and_given_up() -> None:
    with running(WITH_PROFILES) as server:
        assert run_profile(server, "night") == "active profile: night\n"
        assert [line.split() for line in run_profile(server).splitlines()] == [
            ["PROFILE", "ACTIVE", "PINS", "DESCRIPTION"],
            ["desk", "-", "1", "At", "the", "desk"],
            ["night", "yes", "2"],
        ]
        assert json.loads(run_profile(server, "--json"))["active"] == "night"
        assert run_profile(server, "--none") == "active profile: none\n"
        assert server.service.runtime.profile == ""
        with pytest.raises(NoSuchModel, match="did you mean desk"):
            run_profile(server, "desc")


def test_a_profile_and_none_exclude_each_other() -> None:
    with pytest.raises(SystemExit) as caught:
        models.profile(["desk", "--none"], io.StringIO(), {})
    assert caught.value.code == 2
