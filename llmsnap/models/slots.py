"""llama-server's slots: what it keeps in them, and the calls that save and restore them.

Source: llama-server's README (``GET /slots``, ``POST /slots/{id}?action=save``, ``GET /props``,
``GET /lora-adapters``), tried with xllamacpp 2026.10. All calls block, up to the limit given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from llmsnap.errors import NoSlots, PromptRefused, UpstreamError
from llmsnap.models.control import Address, ControlCall, send

ASK_LIMIT_S = 2.0
ABSENT = frozenset({404, 405, 501})
"""Statuses of a server that has no slots, or was told not to save them."""

Scales = tuple[tuple[int, float], ...]
"""The scale of each LoRA adapter, by its number."""


@dataclass(frozen=True, slots=True)
class ServerProps:
    """What a server reports about itself; *context* is that of one slot."""

    build: str
    context: int
    slots: int
    model_path: str
    reads_media: bool
    is_asleep: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot; *task* counts up with each request, *tokens* is what it keeps."""

    number: int
    tokens: int
    task: int
    is_idle: bool
    scales: Scales


def props(address: Address) -> ServerProps:
    """Return what the server reports. Raises: UpstreamError, NoSlots for other servers."""
    found = _get("/props", address)
    settings = found.get("default_generation_settings") if isinstance(found, dict) else None
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    build = found.get("build_info") if isinstance(found, dict) else None
    if not isinstance(context, int) or not isinstance(build, str) or not build:
        raise NoSlots("GET /props does not answer as llama-server does")
    media = found.get("modalities")
    slots = found.get("total_slots")
    return ServerProps(
        build,
        context,
        slots if isinstance(slots, int) else 1,
        str(found.get("model_path") or ""),
        isinstance(media, dict) and any(value is True for value in media.values()),
        found.get("is_sleeping") is True,
    )


def adapters(address: Address) -> Scales:
    """Return the scales of the LoRA adapters that requests get. Raises: UpstreamError."""
    return _scales(_get("/lora-adapters", address, absent=[]))


def slots(address: Address) -> list[Slot]:
    """Return the slots that have served a request, latest first. Raises: NoSlots, UpstreamError."""
    found = _get("/slots", address)
    if not isinstance(found, list):
        raise NoSlots("GET /slots does not answer with a list")
    read = [slot for entry in found if (slot := _slot(entry)) is not None]
    return sorted(read, key=lambda slot: slot.task, reverse=True)


def _slot(entry: Any) -> Slot | None:
    """Return a slot; None for one that has served no request, or is reported in another way."""
    if not isinstance(entry, dict):
        return None
    number, task, tokens = (entry.get(name) for name in ("id", "id_task", "n_prompt_tokens"))
    if type(number) is not int or type(task) is not int or type(tokens) is not int:
        return None
    given = entry.get("params")
    scales = _scales(given.get("lora", []) if isinstance(given, dict) else [])
    return Slot(number, tokens, task, entry.get("is_processing") is False, scales)


def _scales(found: Any) -> Scales:
    """Return the scales in a list of adapters. Raises: UpstreamError."""
    try:
        return tuple(sorted((int(each["id"]), float(each["scale"])) for each in found))
    except (TypeError, KeyError, ValueError):
        raise UpstreamError("its LoRA adapters are reported in an unknown way") from None


def save(address: Address, slot: int, name: str, limit_s: float) -> tuple[int, int]:
    """Save a slot to the file *name*; return its tokens and bytes. Raises: UpstreamError."""
    answer = _act(address, slot, "save", name, limit_s)
    tokens, size = answer.get("n_saved"), answer.get("n_written")
    if type(tokens) is not int or type(size) is not int:
        raise NoSlots("POST /slots does not say how much it has saved")
    if tokens < 1 or size < 1:
        raise UpstreamError("the server saved nothing")
    return tokens, size


def restore(address: Address, slot: int, name: str, limit_s: float) -> int:
    """Restore a slot from the file *name*; return its tokens.

    Raises: UpstreamError, PromptRefused for a file that does not fit.
    """
    tokens = _act(address, slot, "restore", name, limit_s).get("n_restored")
    return tokens if type(tokens) is int else 0


def _act(address: Address, slot: int, action: str, name: str, limit_s: float) -> dict[str, Any]:
    body = json.dumps({"filename": name})
    path = f"/slots/{slot}?action={quote(action)}"
    status, answer = send(address, ControlCall("POST", path, body, limit_s))
    if status in ABSENT:
        raise NoSlots(f"POST {path} answered {status}")
    if status == 400:
        raise PromptRefused(f"POST {path} answered 400")
    found = _decoded(answer)
    if status != 200 or not isinstance(found, dict):
        raise UpstreamError(f"POST {path} answered {status}")
    return found


def _get(path: str, address: Address, absent: Any = None) -> Any:
    status, body = send(address, ControlCall("GET", path, limit_s=ASK_LIMIT_S))
    if status in ABSENT:
        if absent is not None:
            return absent
        raise NoSlots(f"GET {path} answered {status}")
    if status != 200:
        raise UpstreamError(f"GET {path} answered {status}")
    return _decoded(body)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
