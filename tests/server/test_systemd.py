from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import socket

from llmsnap.server.systemd import notified


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.environ = {"NOTIFY_SOCKET": address}

    def next(self) -> list[str]:
        return self._socket.recv(1000).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify")
    found = Manager(name if request.param == "file" else f"@{name}")
    yield found
    found.close()


def test_readiness_and_the_end_are_told(manager: Manager) -> None:
    with notified("listening on :1", manager.environ) as notifier:
        assert manager.next() == ["READY=1", "STATUS=listening on :1"]
        notifier.send("STOPPING=1")
        assert manager.next() == ["STOPPING=1"]


def test_a_watchdog_hears_of_us_at_twice_its_pace(manager: Manager) -> None:
    manager.environ |= {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid())}
    with notified("", manager.environ):
        manager.next()
        assert [manager.next() for _ in range(3)] == [["WATCHDOG=1"]] * 3


@pytest.mark.parametrize("asked", [{}, {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}])
def test_no_sign_of_life_unless_asked_of_this_process(
    manager: Manager, asked: dict[str, str]
) -> None:
    manager.environ |= asked
    with notified("", manager.environ) as notifier:
        manager.next()
        notifier.send("STOPPING=1")
        assert manager.next() == ["STOPPING=1"]


def test_children_do_not_inherit_it(manager: Manager) -> None:
    manager.environ |= {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1", "HOME": "/"}
    with notified("", manager.environ):
        assert manager.environ == {"HOME": "/"}


def test_without_systemd_nothing_is_said() -> None:
    with notified("", {}) as notifier:
        notifier.send("STOPPING=1")


def test_a_socket_that_is_gone_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with notified("", {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        pass
    assert "systemd cannot be told READY=1" in caplog.text
