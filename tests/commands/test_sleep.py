import io

import pytest

from llmsnap.commands import sleep
from llmsnap.errors import CommandFailed, NoSuchModel
from tests.commands.conftest import Running, running

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


def test_a_model_that_cannot_sleep_is_told_with_what_to_do(server: Running) -> None:
    with pytest.raises(CommandFailed, match="cannot sleep: set sleepMode"):
        sleep.main(["llama"], io.StringIO(), server.environ)


def test_a_model_goes_to_sleep() -> None:
    with running(SLEEPER) as server:
        out = io.StringIO()
        server.service.driver.load("s")
        assert sleep.main(["s", "--now"], out, server.environ) == 0
        assert out.getvalue() == "s: asleep\n"
        assert server.states() == {"s": "asleep"}
        assert "/sleep" in server.calls


def test_a_model_that_is_stopped_or_asleep_already_needs_nothing() -> None:
    with running(SLEEPER) as server:
        for state in ("stopped", "asleep"):
            out = io.StringIO()
            assert sleep.main(["s"], out, server.environ) == 0
            assert out.getvalue() == f"s: {state}\n"
            server.service.driver.load("s")
            server.service.driver.sleep("s")


def test_an_unknown_model_is_told(server: Running) -> None:
    with pytest.raises(NoSuchModel):
        sleep.main(["x"], io.StringIO(), server.environ)
