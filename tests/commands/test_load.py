import pytest

from llmsnap.commands import load
from llmsnap.commands.load import live_text, plain_text
from llmsnap.commands.models import Model
from llmsnap.errors import CommandFailed, KeyRefused, NoSuchModel, StartFailed
from tests.commands.conftest import Running
from tests.commands.test_terminal import Screen


def test_it_returns_when_the_model_is_ready_and_tells_a_terminal_in_one_line(server) -> None:
    said = server.run(load.main, "first").splitlines()
    assert server.states()["llama"] == "ready"
    assert said[-1].startswith("first: ready after ")
    shown = server.run(load.main, "coder", out=Screen())
    assert shown.count("\n") == 1
    assert "coder: \x1b[32mready\x1b[0m after " in shown


def test_it_need_not_wait(server: Running) -> None:
    assert server.run(load.main, "--no-wait", "llama") == "llama: asked for\n"
    server.launcher.spawned.wait()


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
