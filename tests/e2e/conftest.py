import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import serving
from tests.e2e.harness import Running
from tests.e2e.losses import losses, table

TWO_MODELS = """\
startPort: {port}
macros:
  sim: {sim}
models:
  alpha:
    cmd: ${{sim}}
    aliases: [first]
  beta:
    cmd: ${{sim}}
"""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if losses:
        terminalreporter.section("what was lost")
        for line in table():
            terminalreporter.write_line(line)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start llmsnap as ``serving`` does."""
    with contextlib.ExitStack() as servers:

        def run(text: str = TWO_MODELS, *options: str, **more: Any) -> Running:
            return servers.enter_context(serving(tmp_path, text, *options, **more))

        yield run


@pytest.fixture(scope="module")
def places() -> dict[str, Any]:
    """What a module has in its CONFIG beside the usual."""
    return {}


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    places: dict[str, Any],
) -> Iterator[Running]:
    """One server for all tests of a module, with its CONFIG."""
    with serving(tmp_path_factory.mktemp("served"), request.module.CONFIG, **places) as running:
        yield running


@pytest.fixture
def unloaded(server: Running) -> Running:
    """That server, with no model loaded."""
    assert server.get("/unload").text == "OK"
    return server
