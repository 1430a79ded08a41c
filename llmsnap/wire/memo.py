"""What is made of a request's head, remembered for as long as the head is.

Our own server recognizes heads that it has seen. Whoever makes something of the head alone keeps
it here for the next request: which key it presents, which headers go upstream.
"""

from __future__ import annotations

from typing import Any

MEMO = "llmsnap.memo"
"""In an environ of our own server: the ``Memo`` of the request's head."""


class Memo:
    """One value for each attribute; None: not known. What it depends on besides is kept with it."""

    __slots__ = ("admitted", "read", "sent")

    def __init__(self) -> None:
        self.read: Any = None
        """What ``web.incoming`` read in the environ."""
        self.admitted: Any = None
        """The runtime by whose rules the request was let in, and its key (``web.gateway``)."""
        self.sent: Any = None
        """A rule, the address of a client, and the headers that an upstream gets by it."""
