"""How the output of jobs gets here from engines without an interface to logs.

Either runners connect over TCP (``runner.Sink``); a connection begins with the id of its job and a
token of it, since the port is open to the network. Or the engine writes files on a shared file
system.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.queue import Full, Queue
from gevent.server import StreamServer
from gevent.threadpool import ThreadPool

from llmsnap.errors import EngineDown

log = logging.getLogger(__name__)

HELLO_LIMIT_S = 2.0
HELLO_BYTES = 300
PIECE_BYTES = 65536
MOST_PIECES = 16
"""Pieces that wait for their reader; then the connection waits."""
MOST_CONNECTIONS = 1000
MOST_UNPROVEN = 16
"""Connections of one address that have not proved their job yet; runners do so at once."""
LOOK_S = 0.2
"""Seconds between two looks at a file."""
READER_LIMIT_S = 30.0
"""How long output waits for its reader."""


class OutputReceiver:
    """Listens at *address* (``HOST:PORT``, on all interfaces); *token_of* a job proves it."""

    def __init__(self, address: str, token_of: Callable[[str], str]) -> None:
        self.address = address
        self._token_of = token_of
        self._server: StreamServer | None = None
        self._queues: dict[str, Queue[bytes]] = {}
        self._readers: set[str] = set()
        self._unproven: Counter[str] = Counter()
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<OutputReceiver {self.address}, {len(self._queues)} jobs>"

    def open(self) -> None:
        """Listen, unless it does already. Raises: EngineDown."""
        if self._server is not None:
            return
        port = int(self.address.rpartition(":")[2])
        server = StreamServer(("", port), self._serve, spawn=Pool(MOST_CONNECTIONS))
        try:
            server.start()
        except OSError as error:
            raise EngineDown(
                f"the output of jobs cannot be received at port {port}",
                detail=f": {os.strerror(error.errno or 0)} (an llmsnap that runs uses it, too)",
            ) from error
        self._server = server

    def read(self, job_id: str) -> Iterator[bytes]:
        """Yield the output of a job as it arrives. Endless: its greenlet is killed."""
        self.open()
        queue = self._queue_of(job_id)
        self._readers.add(job_id)
        try:
            while True:
                yield queue.get()
        finally:
            self._readers.discard(job_id)
            self._queues.pop(job_id, None)

    def _queue_of(self, job_id: str) -> Queue[bytes]:
        return self._queues.setdefault(job_id, Queue(MOST_PIECES))

    def close(self) -> None:
        """Listen no longer, and close all connections."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(timeout=0)

    def _serve(self, sock: socket.socket, address: tuple[str, int]) -> None:
        with sock:
            job_id, rest = self._proven(sock, address[0])
            if job_id:
                self._receive(sock, job_id, rest)
            elif not self._has_warned:  # once: others could fill the log
                self._has_warned = True
                log.warning("a connection with output from %s is from no job", address[0])
        if job_id:
            self._keep_for_reader(job_id)

    def _proven(self, sock: socket.socket, source: str) -> tuple[str, bytes]:
        """Return what ``_hello`` does, within a short time, and for a few of *source* at a time."""
        if self._unproven[source] >= MOST_UNPROVEN:
            return "", b""
        self._unproven[source] += 1
        try:
            with gevent.Timeout(HELLO_LIMIT_S):
                return self._hello(sock)
        except (gevent.Timeout, OSError):
            return "", b""
        finally:
            self._unproven[source] -= 1
            if not self._unproven[source]:
                del self._unproven[source]

    def _hello(self, sock: socket.socket) -> tuple[str, bytes]:
        """Return the job that connects, and what follows; "" if it proves none."""
        data = b""
        while b"\n" not in data:
            piece = sock.recv(HELLO_BYTES)
            if not piece or len(data) > HELLO_BYTES:
                return "", b""
            data += piece
        line, _, rest = data.partition(b"\n")
        job_id, _, token = line.decode("ascii", "replace").partition(" ")
        wanted = self._token_of(job_id)
        return (job_id if hmac.compare_digest(token.encode(), wanted.encode()) else ""), rest

    def _receive(self, sock: socket.socket, job_id: str, data: bytes) -> None:
        """Pass on the output of a job, whose reader may come later, until either side ends."""
        queue = self._queue_of(job_id)
        try:
            while self._queues.get(job_id) is queue:
                if data:
                    queue.put(data, timeout=READER_LIMIT_S)
                data = sock.recv(PIECE_BYTES)
                if not data:
                    return
        except (OSError, Full):
            return  # a runner that lives on connects again

    def _keep_for_reader(self, job_id: str) -> None:
        """Keep what an ended connection has brought, for a time. Blocks.

        A server that fails at once has ended before its job was looked at for the first time.
        """
        queue = self._queues.get(job_id)
        if job_id not in self._readers:
            gevent.sleep(READER_LIMIT_S)
        if job_id not in self._readers and self._queues.get(job_id) is queue:
            self._queues.pop(job_id, None)


Receivers = dict[str, OutputReceiver]
"""Receivers by address: launchers share one, which closes with the first of them."""


# --- files ---------------------------------------------------------------------------------------


def follow(path: Path, skip: int, pool: ThreadPool) -> Iterator[bytes]:
    """Yield what *path* has and gets, from byte *skip* on. Endless: its greenlet is killed.

    It is read in *pool*.
    """
    at = skip
    while True:
        data = pool.apply(_read, (path, at))
        if data:
            at += len(data)
            yield data
        else:
            gevent.sleep(LOOK_S)


def _read(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(PIECE_BYTES)
    except OSError:  # not there yet, or for a moment
        return b""
