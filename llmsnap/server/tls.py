"""TLS for the listener, with a certificate that is reloaded when its files change."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from gevent import socket, ssl

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0


class Certificate:
    """A certificate and its key, whose files may be replaced at any time.

    New connections get the new certificate; open ones keep theirs. While the files do not match
    (they are replaced one after the other) the old certificate stays in use.
    """

    def __init__(
        self, cert_file: str, key_file: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = (cert_file, key_file)
        self._clock = clock
        self._context = new_context(cert_file, key_file)
        self._stamps = self._stat()
        self._checked_at = clock()

    def __repr__(self) -> str:
        return f"<Certificate {self._files[0]}>"

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next connection. Stats the files at most once a second."""
        now = self._clock()
        if now - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = now
            stamps = self._stat()
            if stamps != self._stamps:
                self._stamps = stamps
                self._reload()
        return self._context

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Return *sock* wrapped in TLS, without the handshake. Never switches."""
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def _stat(self) -> list[Any]:
        """Return time, size and inode of the files; the previous ones while a file is missing."""
        try:
            found = [os.stat(name) for name in self._files]  # noqa: PTH116 - follows links anew
        except OSError:
            return self._stamps
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
