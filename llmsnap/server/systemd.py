"""Tells systemd how we are: ready, stopping, alive (sd_notify(3), without its library)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import gevent
from gevent import socket

from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Sends lines to the service manager, if one asked for them."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __repr__(self) -> str:
        return f"<Notifier {self._address!r}>"

    def send(self, *lines: str) -> None:
        """Send ``NAME=value`` lines as one message; a failure is logged and nothing else."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", lines[0], error)


@contextmanager
def notified(status: str, environ: MutableMapping[str, str] = os.environ) -> Iterator[Notifier]:
    """Report that we are ready, then that we live, as often as the unit asks, until the block ends.

    What systemd set for us is taken out of *environ*: the models are not to speak for us. A sign
    of life comes from a greenlet, so it ends when something keeps the event loop from running.
    """
    notifier = Notifier(environ.pop(SOCKET, ""))
    every_s = _interval_s(environ.pop(WATCHDOG, ""), environ.pop(WATCHDOG_PID, ""))
    tasks = TaskGroup("systemd")
    notifier.send("READY=1", f"STATUS={status}")
    if every_s:
        tasks.spawn("watchdog", _tell_alive, notifier, every_s)
    try:
        yield notifier
    finally:
        tasks.kill()


def _interval_s(usec: str, pid: str) -> float:
    """Half the time after which systemd would give us up; 0: it never does."""
    if not usec.isdigit() or pid not in {"", str(os.getpid())}:
        return 0.0
    return int(usec) / 2_000_000


def _tell_alive(notifier: Notifier, every_s: float) -> None:
    while True:
        notifier.send("WATCHDOG=1")
        gevent.sleep(every_s)
