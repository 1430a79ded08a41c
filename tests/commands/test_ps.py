import io
import json

import pytest

from llmsnap.commands import ps
from tests.commands.conftest import Running


def run(server: Running, *argv: str, key: str = "") -> list[str]:
    out = io.StringIO()
    environ = {**server.environ, "LLMSNAP_API_KEY": key}
    assert ps.main(argv, out, environ) == 0
    return out.getvalue().splitlines()


def test_what_runs_is_a_table(server: Running) -> None:
    assert run(server) == ["MODEL  STATE  SINCE  TTL  IN FLIGHT  QUEUE"]
    server.service.driver.load("llama")
    (head, row) = run(server)
    assert row.startswith("llama  ready  0.")
    assert row.endswith("  5 min, 5 min left  0          0")
    assert head.index("IN FLIGHT") == row.rindex("0  ")


def test_stopped_models_are_shown_when_asked_for(server: Running) -> None:
    assert [line.split()[:3] for line in run(server, "--all")[1:]] == [
        ["coder", "stopped", "-"],
        ["llama", "stopped", "-"],
    ]


def test_names_alone_for_scripts(server: Running) -> None:
    assert run(server, "-q") == []
    assert run(server, "-aq") == ["coder", "llama"]


def test_a_document_for_programs(server: Running) -> None:
    server.service.driver.load("coder")
    (coder,) = json.loads("\n".join(run(server, "--json")))["models"]
    assert list(coder) == list(ps.JSON_FIELDS)
    assert (coder["model"], coder["state"], coder["ttl_s"]) == ("coder", "ready", 0)


def test_a_key_that_sees_less_is_told_so(
    guarded: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    guarded.service.driver.load("llama")
    assert len(run(guarded, "--all", key="guest")) == 2
    assert "stopped models are not told" in capsys.readouterr().err
    assert len(run(guarded, "--all", key="boss")) == 3
    assert not capsys.readouterr().err
