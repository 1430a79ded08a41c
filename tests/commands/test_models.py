import pytest

from llmsnap.commands.client import Client
from llmsnap.commands.models import listed, overview
from llmsnap.errors import KeyRefused
from tests.commands.conftest import Running


def test_all_models_are_told_to_an_admin(server: Running) -> None:
    server.service.driver.load("llama")
    coder, llama = overview(Client(server.url))
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
    guest = Client(guarded.url, "guest")
    with pytest.raises(KeyRefused):
        overview(guest)
    (llama,), is_all = listed(guest)
    assert not is_all
    assert (llama.model, llama.state, llama.ttl_s) == ("llama", "ready", 300)
    assert listed(Client(guarded.url, "boss"))[1]
