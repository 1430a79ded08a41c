"""One browser and one server of each kind for all tests of the interface."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.ui import servers

try:
    from tests.ui import browser as browsing
    from tests.ui import firefox as firefoxes
except ImportError:  # selenium is an extra for developers
    browsing = None  # type: ignore[assignment]

NO_SELENIUM = "" if browsing else "no selenium here: install the dev extra"
LIMIT_S = 240
"""For each test: a machine may be busy, and each wait within the test has its own limit."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    # A skipped browser test must not look like a passed one.
    skipped = terminalreporter.stats.get("skipped", [])
    if any("browser tests skipped" in str(report.longrepr) for report in skipped):
        terminalreporter.write_sep("!", "THE BROWSER TESTS DID NOT RUN")
        terminalreporter.write_line("Debian: apt-get install chromium chromium-driver firefox-esr")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if why := NO_SELENIUM or browsing.missing():
        pytest.skip(f"browser tests skipped: {why}")
    with closing(browsing.Browser()) as found:
        yield found


@pytest.fixture(scope="session")
def firefox() -> Iterator[Any]:
    if why := NO_SELENIUM or ("" if firefoxes.program() else "no firefox-esr on this machine"):
        pytest.skip(f"browser tests skipped: {why}")
    with closing(firefoxes.Firefox()) as found:
        yield found


@pytest.fixture(scope="session")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.fake(tmp_path_factory.mktemp("fake")) as server:
        yield server


@pytest.fixture
def fake(fake_server: servers.Server) -> servers.Server:
    """The made-up world as it begins, whatever the last test did to it."""
    fake_server.post("/fake/renew")
    return fake_server


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="session")
def server(folder: Any) -> Iterator[servers.Server]:
    with servers.real(folder) as server:
        yield server


@pytest.fixture
def limit_s() -> float:
    return LIMIT_S


@pytest.fixture(autouse=True)
def clean_console(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, the console shows no error, unless the test reads it itself."""
    yield
    if "browser" in request.fixturenames and request.node.get_closest_marker("e2e"):
        found = request.getfixturevalue("browser").console()
        assert not found, found
