"""A file of the state directory that says one thing of each definition of a model."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Generic, TypeVar, cast

from gevent import get_hub
from gevent.lock import BoundedSemaphore

from llmsnap.statedir import StateDir

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MOST_DEFINITIONS = 256


T = TypeVar("T")


class Remembered(Generic[T]):
    """What is known of definitions, as dataclasses by digest; the last one kept is at the end.

    *name* is the file, *what* the plural of its contents, for people. *parse* makes an entry of
    JSON that another version may have written; one for which it raises ValueError, LookupError,
    TypeError or AttributeError is left out. ``open`` and ``write`` block.
    """

    def __init__(
        self, state: StateDir, name: str, what: str, most_bytes: int, parse: Callable[[Any], T]
    ) -> None:
        self._state, self._name, self._what = state, name, what
        self._most_bytes, self._parse = most_bytes, parse
        self._known: dict[str, T] = {}
        self._writing = BoundedSemaphore(1)

    def __repr__(self) -> str:
        return f"<Remembered {self._name} of {len(self._known)} definitions>"

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, digest: str) -> bool:
        return digest in self._known

    def __getitem__(self, digest: str) -> T:
        return self._known[digest]

    def get(self, digest: str) -> T | None:
        """Return what is known of a definition."""
        return self._known.get(digest)

    def keep(self, digest: str, entry: T) -> None:
        """Keep *entry*, at the cost of the oldest one if there are too many. Never switches."""
        self._known.pop(digest, None)
        self._known[digest] = entry
        while len(self._known) > MOST_DEFINITIONS:
            del self._known[next(iter(self._known))]

    def open(self) -> None:
        """Read the file; what is known already is newer. Blocks briefly."""
        if not self._state.is_readable:
            return
        try:
            data = self._state.read(self._name, self._most_bytes)
        except OSError as error:
            log.warning("cannot read %s of %s: %s", self._name, self._state, error)
            return
        self._known = self._entries(data) | self._known

    def write(self) -> None:
        """Replace the file, without holding up other greenlets. Blocks; a failure is logged."""
        with self._writing:
            models = {digest: asdict(cast(Any, entry)) for digest, entry in self._known.items()}
            document = {"schema_version": SCHEMA_VERSION, "models": models}
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
            data = text.encode("utf-8", "surrogatepass")
            try:
                get_hub().threadpool.apply(self._state.write, (self._name, data))
            except OSError as error:
                log.warning("%s are not remembered: %s: %s", self._what, self._state, error)

    def _entries(self, data: bytes) -> dict[str, T]:
        try:
            document = json.loads(data or b"{}")
            models = document["models"] if document["schema_version"] == SCHEMA_VERSION else {}
            entries = list(models.items())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}
        found = {}
        for digest, entry in entries:
            try:
                found[digest] = self._parse(entry)
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
        return found
