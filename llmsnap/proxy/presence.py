"""Whether the client of one request is still there, and what is done when it leaves."""

from __future__ import annotations

from collections.abc import Callable

from llmsnap.errors import ClientGone
from llmsnap.proxy.watch import ClientWatch


class Presence:
    """Watches one client from ``open`` to ``close``; *fd* -1 stands for one never seen leaving."""

    __slots__ = ("_fd", "_react", "_watch", "gone")

    def __init__(self, watch: ClientWatch | None, fd: int = -1) -> None:
        self.gone = False
        self._watch = watch
        self._fd = fd
        self._react: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Presence fd {self._fd}{' gone' if self.gone else ''}>"

    def open(self) -> None:
        """Begin to watch. Never switches."""
        if self._watch is not None and self._fd >= 0:
            self._watch.add(self._fd, self._on_gone)

    def react(self, do: Callable[[], None] | None) -> None:
        """Call *do* when the client leaves (at once if it has), instead of what was said before.

        It runs in the hub, so it must not switch greenlets.
        """
        self._react = do
        if self.gone and do is not None:
            do()

    def check(self) -> None:
        """Raise ClientGone if it left."""
        if self.gone:
            raise ClientGone("the client left")

    def close(self) -> None:
        """Stop watching. Never switches."""
        self._react = None
        if self._watch is not None and self._fd >= 0:
            self._watch.remove(self._fd)
            self._fd = -1

    def _on_gone(self) -> None:
        self.gone = True
        if self._react is not None:
            self._react()
