import io

import pytest

from llmsnap.commands import unload
from llmsnap.errors import NoSuchModel
from tests.commands.conftest import Running


def run(server: Running, *argv: str) -> str:
    out = io.StringIO()
    assert unload.main(argv, out, server.environ) == 0
    return out.getvalue()


def test_one_model_is_stopped(server: Running) -> None:
    server.service.driver.load("llama")
    assert run(server, "--drain", "first") == "first: stopped\n"
    assert server.states()["llama"] == "stopped"


def test_all_are_stopped(server: Running) -> None:
    server.service.driver.load("coder")
    assert run(server, "--all") == "all models: stopped\n"
    assert set(server.states().values()) == {"stopped"}


@pytest.mark.parametrize("argv", [[], ["llama", "--all"]])
def test_one_or_all_has_to_be_said(server: Running, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(server, *argv)
    assert caught.value.code == 2


def test_an_unknown_model_is_told(server: Running) -> None:
    with pytest.raises(NoSuchModel):
        run(server, "x")
