"""TLS for the listener, with a certificate that is read anew when its files change."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from gevent import socket, ssl

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class Certificate:
    """A certificate and its key, in files that may be replaced at any time.

    New connections get the new one; those that are open keep theirs. Files that do not fit
    together (they are replaced one after the other) leave the old one in use.
    """

    def __init__(
        self, cert_file: str, key_file: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = (cert_file, key_file)
        self._clock = clock
        self._context = new_context(cert_file, key_file)
        self._seen = self._look()
        self._looked_at = clock()

    def __repr__(self) -> str:
        return f"<Certificate {self._files[0]}>"

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next connection. Looks at the files at most once a second."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._reload()
        return self._context

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Return *sock* with TLS, its handshake still to be done. Never switches."""
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def _look(self) -> list[Any]:
        """Return what changes when a file does; a missing file looks like no change at all."""
        try:
            found = [os.stat(name) for name in self._files]  # noqa: PTH116 - follows links anew
        except OSError:
            return self._seen
        return [(one.st_mtime_ns, one.st_size, one.st_ino) for one in found]

    def _reload(self) -> None:
        try:
            self._context = new_context(*self._files)
        except OSError as error:  # SSLError is one, too
            log.warning("the new certificate cannot be used, the old one stays: %s", error)
        else:
            log.info("new certificate from %s", self._files[0])


def new_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and up. Raises: OSError naming the files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot use {cert_file} with {key_file}: {error.strerror or error}"
        ) from error
    return context
