"""Listening sockets: TCP on IPv4 and IPv6, and unix sockets."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from gevent import socket

BACKLOG = 1024
KEEPALIVE_AFTER_S = 60
KEEPALIVE_EVERY_S = 15
KEEPALIVE_TIMES = 4
"""An unreachable client is detected after two minutes; the system's default is two hours."""
STALL_S = KEEPALIVE_AFTER_S + KEEPALIVE_EVERY_S * KEEPALIVE_TIMES
"""A client that reads nothing of its response for so long is dropped: its model may be needed."""


def open_listener(listen: str) -> socket.socket:
    """Return a listening socket for ``host:port``, ``:port`` or ``unix:/path``.

    Raises: OSError that names the address, ValueError.
    """
    try:
        if listen.startswith("unix:"):
            return _bind_unix(listen.removeprefix("unix:"))
        return _bind_host(*split_host_port(listen))
    except OSError as error:
        raise OSError(error.errno, f"{listen}: {error.strerror or error}") from error


def _bind_host(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_ipv6) else socket.AF_INET
    try:
        return _bind_tcp(family, host, port)
    except OSError as error:
        if host or family == socket.AF_INET or error.errno == errno.EADDRINUSE:
            raise
        return _bind_tcp(socket.AF_INET, host, port)  # a kernel without IPv6


def split_host_port(listen: str) -> tuple[str, int]:
    """Return host and port of a listen address. Raises: ValueError."""
    host, separator, port = listen.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"not an address to listen on: {listen!r}; use host:port or :port")
    return host.strip("[]"), int(port)


def address_of(listener: socket.socket, *, tls: bool) -> str:
    """Return the URL of a listening socket."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http{'s' if tls else ''}://{host}:{name[1]}"


def remove_socket(path: str) -> None:
    """Remove the file of a unix socket; any other file at *path* stays."""
    with suppress(OSError):
        if _is_socket(path):
            os.unlink(path)  # noqa: PTH108


def _bind_tcp(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_client_options(sock)
        if family == socket.AF_INET6 and not host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def set_client_options(sock: socket.socket) -> None:
    """Set the options that accepted sockets inherit.

    Without TCP_NODELAY a response on a reused connection waits 40 ms for a delayed ACK.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_AFTER_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_TIMES),
        ("TCP_USER_TIMEOUT", int(STALL_S * 1000)),  # limits keep-alive as well: tcp(7)
    ):
        if hasattr(socket, name):  # macOS knows only some
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _bind_unix(path: str) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket that an earlier run left at *path*. Raises: OSError for anything else."""
    try:
        is_socket = _is_socket(path)
    except FileNotFoundError:
        return
    if not is_socket:
        what = f"{path} exists and is not a socket: remove it, or give --listen another path"
        raise OSError(errno.EEXIST, what)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, f"{path} is in use by a running server")
    os.unlink(path)  # noqa: PTH108


def _is_socket(path: str) -> bool:
    """Return whether *path* itself, not the target of a link, is a socket. Raises: OSError."""
    return stat.S_ISSOCK(os.lstat(path).st_mode)
