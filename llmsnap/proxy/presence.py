"""Whether the client of one request is still there."""

from __future__ import annotations

from collections.abc import Callable

from llmsnap.proxy.watch import ClientWatch


class Presence:
    """Watches one client from ``open`` to ``close``; *fd* -1 stands for one never seen leaving."""

    __slots__ = ("_fd", "_on_gone", "_watch", "gone")

    def __init__(self, watch: ClientWatch | None, fd: int = -1) -> None:
        self.gone = False
        self._watch = watch
        self._fd = fd
        self._on_gone: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Presence fd {self._fd}{' gone' if self.gone else ''}>"

    def open(self, on_gone: Callable[[], None]) -> None:
        """Call *on_gone*, in the hub, when the client leaves. Never switches."""
        if self._watch is not None and self._fd >= 0:
            self._on_gone = on_gone
            self._watch.add(self._fd, self._note)

    def close(self) -> None:
        """Stop watching. Never switches."""
        if self._on_gone is not None and self._watch is not None:
            self._on_gone = None
            self._watch.remove(self._fd)

    def _note(self) -> None:
        self.gone = True
        if self._on_gone is not None:
            self._on_gone()
