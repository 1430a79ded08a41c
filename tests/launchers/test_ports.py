import os
from pathlib import Path

from gevent import socket

from llmsnap.launchers.local import ports


def test_a_listener_on_either_loopback_address_takes_the_port() -> None:
    for host in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as taken:
            taken.bind((host, 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert not ports.is_free("localhost", port)
            assert ports.holder(port).endswith(f"pid {os.getpid()}")
            assert ports.holder(port, frozenset({os.getpgid(0)})) == ""
        assert ports.is_free("localhost", port)


def test_a_descriptor_that_is_closed_meanwhile_hides_no_owner(monkeypatch) -> None:
    true_readlink, closed = Path.readlink, []

    def readlink(link: Path) -> Path:
        if link.parent == Path(f"/proc/{os.getpid()}/fd") and not closed:
            closed.append(link)
            raise FileNotFoundError(link)
        return true_readlink(link)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(Path, "readlink", readlink)
        assert ports.holder(taken.getsockname()[1]).endswith(f"pid {os.getpid()}")
    assert closed


def test_nobody_known_is_still_somebody() -> None:
    with socket.socket() as unknown:
        unknown.bind(("127.0.0.1", 0))  # bound, but not listening: no owner is to be found
        port = unknown.getsockname()[1]
        assert not ports.is_free("127.0.0.1", port)
        assert ports.holder(port) == "another program"
