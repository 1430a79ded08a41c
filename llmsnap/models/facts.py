"""What is known of models, loaded or not: context length, modalities and properties.

A server is queried once per load, in the background, so that neither its first request nor a model
list waits for it. Its answer is remembered in the state directory by the definition of the model
(command, proxy, env): clients choose their context window before a model is loaded. The context of
a model that has never been loaded is read from its command.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmsnap.config import Capabilities, ModelConfig, split_command
from llmsnap.errors import UpstreamError
from llmsnap.models.control import Address, ControlCall, send
from llmsnap.remembered import Remembered
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

FILE = "facts.json"
MOST_PROPERTIES_BYTES = 64 * 1024
"""Larger properties are not remembered; a chat template, their largest part, is 5 to 20 KB."""
MOST_FILE_BYTES = 64 << 20
LIMIT_S = 5.0
CLOSE_S = 0.2

CONTEXT_OPTIONS = frozenset({"-c", "--ctx-size", "--max-model-len", "--context-length"})
"""Of llama.cpp, vLLM and SGLang."""
SLOT_OPTIONS = frozenset({"-np", "--parallel"})
UNIFIED_OPTIONS = frozenset({"-kvu", "--kv-unified"})
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kKmM]?)")
_UNITS = {"": 1, "k": 1000, "K": 1024, "m": 1000_000, "M": 1024 * 1024}
"""Of vLLM's --max-model-len."""


@dataclass(frozen=True, slots=True)
class Context:
    """A context length in tokens. *source*: ``configured server remembered command``."""

    tokens: int
    source: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server has reported. *media*: what its model accepts beside text."""

    n_ctx: int | None = None
    media: tuple[str, ...] = ()
    props: Mapping[str, Any] | None = None
    """Its answer to ``GET /props``."""


NOTHING = Facts()


class KnownFacts:
    """The facts of all models; only ``open`` and ``close`` block."""

    def __init__(self, state: StateDir) -> None:
        self._known = Remembered(state, FILE, "facts of models", MOST_FILE_BYTES, _parsed)
        self._tasks = TaskGroup("facts")

    def __repr__(self) -> str:
        return f"<KnownFacts of {len(self._known)} definitions>"

    def open(self) -> None:
        """Read what earlier runs have remembered. Blocks briefly."""
        self._known.open()

    def close(self) -> None:
        """Wait briefly for queries in flight, then cancel them. Blocks."""
        self._tasks.close(CLOSE_S)

    def ask(self, model: ModelConfig, address: Address) -> None:
        """Query the server at *address*, which has just loaded *model*. Never switches."""
        self._tasks.spawn(model.id, self._learn, model, address)

    def note(self, model: ModelConfig, found: Facts) -> bool:
        """Keep what the server of *model* has reported; return whether it is new."""
        name = definition_of(model)
        if found in (NOTHING, self._known.get(name)):
            return False
        self._known.keep(name, found)
        return True

    def context(self, model: ModelConfig, *, is_loaded: bool) -> Context | None:
        """Return the context length of a model; None: unknown."""
        reported = self._of(model).n_ctx
        if model.capabilities.context:
            return Context(model.capabilities.context, "configured")
        if reported:
            return Context(reported, "server" if is_loaded else "remembered")
        written = context_of_command(model.cmd)
        return Context(written, "command") if written else None

    def capabilities(self, model: ModelConfig) -> Capabilities:
        """Return what a model can do: as configured, else the media that its server reported."""
        media = self._of(model).media
        if model.capabilities or not media:
            return model.capabilities
        return Capabilities(inputs=("text", *media), outputs=("text",))

    def properties(self, model: ModelConfig) -> dict[str, Any] | None:
        """Return what ``/props`` answers for a model that is not loaded.

        That is the answer of its last load, else what command and configuration say; None: not even
        its context is known.
        """
        remembered, context = self._of(model).props, self.context(model, is_loaded=False)
        if remembered is not None:
            return {**remembered, "loaded": False}
        if context is None:
            return None
        inputs = self.capabilities(model).inputs
        return {
            "default_generation_settings": {"params": {}, "n_ctx": context.tokens},
            "model_alias": model.id,
            "modalities": {"vision": "image" in inputs, "audio": "audio" in inputs},
            "loaded": False,
        }

    def _of(self, model: ModelConfig) -> Facts:
        return self._known.get(definition_of(model)) or NOTHING

    def _learn(self, model: ModelConfig, address: Address) -> None:
        try:
            found = _ask(address)
        except UpstreamError as error:
            log.debug("<%s> did not report its properties: %s", model.id, error)
            return
        configured = model.capabilities.context
        if found.n_ctx and configured > found.n_ctx:
            log.warning(
                "<%s> capabilities.context is %d, but its server has room for %d tokens: clients "
                "that trust the configuration will fail",
                model.id,
                configured,
                found.n_ctx,
            )
        if self.note(model, found):
            self._known.write()


@lru_cache(maxsize=1024)  # each list of models asks for all of them
def context_of_command(command: str) -> int | None:
    """Return the context of one request by the options of a command, in tokens; None: unknown.

    llama.cpp divides its context among its slots, unless they share one cache.
    """
    words = [part for word in split_command(command) for part in word.split()]
    tokens, slots, unified = 0, 1, False
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in CONTEXT_OPTIONS:
            tokens = _size(value if equals else following)
        elif option in SLOT_OPTIONS:
            slots = _size(value if equals else following)
        unified = unified or option in UNIFIED_OPTIONS
    return (tokens if unified else tokens // max(1, slots)) or None


def _size(text: str) -> int:
    """Return the number that an option has as its value, 0 for anything else."""
    found = _SIZE.fullmatch(text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def definition_of(model: ModelConfig) -> str:
    """Return a digest of the definition: a changed one is another model."""
    words = model.blueprint or (model.proxy, *model.env, model.cmd)
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:32]


# --- what servers report --------------------------------------------------------------------------


def _ask(address: Address) -> Facts:
    """Return what the server at *address* reports. Blocks. Raises: UpstreamError."""
    body = _get("/props", address)
    props = _decoded(body)
    length = _positive(props, "default_generation_settings", "n_ctx")
    if not isinstance(props, dict) or length is None:  # something else answers by this path
        return Facts(_listed(_decoded(_get("/v1/models", address))))
    modalities = props.get("modalities")
    said = modalities if isinstance(modalities, dict) else {}
    media = {"image": said.get("vision"), "audio": said.get("audio")}
    return Facts(
        length,
        tuple(name for name, is_so in media.items() if is_so is True),
        props if len(body) <= MOST_PROPERTIES_BYTES else None,
    )


def _get(path: str, address: Address) -> bytes:
    status, body = send(address, ControlCall("GET", path, limit_s=LIMIT_S))
    return body if status == 200 else b""


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _listed(document: Any) -> int | None:
    """Return the context length that vLLM, SGLang and newer servers list for their first model."""
    for names in (("max_model_len",), ("context_length",), ("meta", "n_ctx")):
        found = _positive(document, "data", 0, *names)
        if found is not None:
            return found
    return None


def _positive(document: Any, *names: str | int) -> int | None:
    """Return the positive whole number below these *names*; None: there is none."""
    try:
        for name in names:
            document = document[name]
    except (LookupError, TypeError):
        return None
    return document if type(document) is int and document > 0 else None


def _parsed(entry: Mapping[str, Any]) -> Facts:
    """Return the facts of an entry of the file."""
    media, props = entry.get("media"), entry.get("props")
    return Facts(
        _positive(entry, "n_ctx"),
        tuple(one for one in media if one in ("image", "audio")) if isinstance(media, list) else (),
        props if isinstance(props, dict) else None,
    )
