import errno
import os
from pathlib import Path

import pytest
from gevent import socket

from llmsnap.server.bind import address_of, bind, remove, split_host_port


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (":8080", ("", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert split_host_port(text) == found


@pytest.mark.parametrize("text", ["", "8080", "host", "host:", "host:http", ":65536", ":\u0661"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not an address to listen on"):
        bind(text)


def test_accepted_sockets_send_at_once_and_notice_lost_clients() -> None:
    with bind("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


def test_no_host_means_both_families() -> None:
    with bind(":0") as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, tls=False) == f"http://[::]:{port}"
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()


def test_ipv6() -> None:
    with bind("[::1]:0") as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, tls=True) == f"https://[::1]:{port}"


def test_a_port_in_use_is_said_so() -> None:
    with bind("127.0.0.1:0") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(OSError, match=rf"{address}: Address already in use"):
            bind(address)
    with bind(":0") as listener, pytest.raises(OSError, match="in use"):
        bind(f":{listener.getsockname()[1]}")


def test_a_unix_socket_replaces_what_a_dead_server_left(tmp_path) -> None:
    listen = f"unix:{tmp_path}/s"
    bind(listen).close()
    with bind(listen) as listener:
        assert address_of(listener, tls=False) == listen
        with pytest.raises(OSError, match="in use by a running server") as caught:
            bind(listen)
        assert caught.value.errno == errno.EADDRINUSE
    remove(str(tmp_path / "s"))
    remove(str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def test_a_folder_that_is_not_there(tmp_path) -> None:
    with pytest.raises(OSError, match="No such file"):
        bind(f"unix:{tmp_path}/no/such/s")


def a_file(path: Path) -> None:
    path.write_text("precious")


def a_link(path: Path) -> None:
    a_file(path.with_name("other"))
    path.symlink_to("other")


def a_link_to_a_socket(path: Path) -> None:
    bind(f"unix:{path}-other").close()
    path.symlink_to(f"{path.name}-other")


@pytest.mark.parametrize(
    "make",
    [
        a_file,
        a_link,
        a_link_to_a_socket,
        lambda path: path.symlink_to("nowhere"),
        Path.mkdir,
        os.mkfifo,
    ],
    ids=["file", "link", "link to a socket", "dangling link", "folder", "fifo"],
)
def test_what_is_no_socket_is_never_removed(tmp_path, make) -> None:
    path = tmp_path / "s"
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match=r"s exists and is not a socket: remove it, or give"):
        bind(f"unix:{path}")
    remove(str(path))
    assert path.lstat().st_ino == before.st_ino


def test_a_socket_that_something_else_has_is_left_to_it(tmp_path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(OSError, match="in use"):
            bind(f"unix:{path}")
        assert (tmp_path / "s").exists()
