"""Finds the process that holds a TCP port of this machine."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp, proc(5)


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen on *port*.

    ``localhost`` means 127.0.0.1 and ::1: a program on either would be mistaken for the new server.
    """
    return all(_bindable(address, port) for address in _addresses(host))


def holder(port: int, leaving: frozenset[int] = frozenset()) -> str:
    """Return the listener on *port*, as ``name, pid N``; empty when only *leaving* groups listen.

    Reads all of /proc: call it in a thread.
    """
    owners = {pid for inode in _listening_inodes(port) for pid in _owners(inode)}
    strangers = {pid for pid in owners if pid not in leaving and _group(pid) not in leaving}
    if owners and not strangers:
        return ""
    if not strangers:
        return "another program"
    pid = min(strangers)
    return f"{_name(pid)}, pid {pid}"


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _addresses(host: str) -> list[str]:
    return ["127.0.0.1", "::1"] if host == "localhost" else [host]


def _bindable(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        probe = socket.socket(family, socket.SOCK_STREAM)
    except OSError:  # no IPv6 here
        return True
    with probe:
        # A port in TIME_WAIT is free for a server that sets this, as servers do.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno not in {errno.EADDRINUSE, errno.EACCES}
    return True


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes


def _owners(inode: str) -> set[int]:
    owners = set()
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(_leads_to(link) == wanted for link in folder.iterdir()):
                owners.add(int(folder.parent.name))
        except OSError:  # it ended meanwhile, or belongs to another user
            continue
    return owners


def _leads_to(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile, and the next may be the one
        return ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "unknown"
