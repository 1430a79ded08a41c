"""llama-server's slots: the prompts it keeps, and saving them to files and restoring them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from llmsnap.simulator.exchange import Json, Refusal, SimRequest, SimResponse, json_response
from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.routes import GET, Route, require_loaded, work
from llmsnap.simulator.state import SimState, SlotContent

PAD = " " * 64
"""Per token, so that the size of a file grows with its prompt."""


def reuse(state: SimState, tokens: Sequence[str]) -> int:
    """Put *tokens* into the most similar slot; return how many of them it had already.

    Like llama-server, an unlike prompt goes to the slot that was used least recently.
    """
    alike = [_shared(slot.tokens, tokens) for slot in state.slots]
    best = max(range(len(alike)), key=alike.__getitem__)
    if alike[best] * 10 < len(tokens):
        best = min(range(len(alike)), key=lambda at: state.slots[at].used)
    state.slots[best].tokens = list(tokens)
    state.slots[best].used = max(slot.used for slot in state.slots) + 1
    return min(alike[best], len(tokens) - 1) if tokens else 0


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def slots(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/slots``; a slot shows its prompt only after it has served a request."""
    del request
    _require_slots(state.options)
    require_loaded(state)
    return json_response([_describe(at, slot) for at, slot in enumerate(state.slots)])


def _describe(at: int, slot: SlotContent) -> Json:
    shown: Json = {"id": at, "is_processing": False}
    if slot.used:
        shown |= {"id_task": slot.used, "n_prompt_tokens": len(slot.tokens), "params": {"lora": []}}
    return shown


def act(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/slots/<id>?action=`` with ``save``, ``restore`` or ``erase``."""
    options = state.options
    _require_slots(options)
    require_loaded(state)
    if not options.slot_save_path:
        raise Refusal(501, "This server does not support slots action. Start it with "
                      "`--slot-save-path`", "not_supported_error")  # fmt: skip
    number = request.path.removeprefix("/slots/")
    if not number.isdecimal():
        raise Refusal(400, f"no number of a slot: {number}")
    at = int(number) % len(state.slots)  # as llama-server does
    action = request.query.get("action")
    if action == "erase":
        state.slots[at] = SlotContent()
        return json_response({"id_slot": at, "n_erased": 0})
    name = request.text("filename")
    if action not in ("save", "restore") or not name or "/" in name or name.startswith("."):
        raise Refusal(400, "Invalid action or filename")
    if options.slot_fault == "hang":
        request.client.wait_forever()
    work(options.slot_time)
    if options.slot_fault == "error":
        raise Refusal(500, "slots fail, as --slot-fault demands", "server_error")
    file = Path(options.slot_save_path) / name
    return json_response((_save if action == "save" else _restore)(state, at, file))


def _save(state: SimState, at: int, file: Path) -> Json:
    tokens = state.slots[at].tokens
    data = json.dumps([PAD, tokens]).encode() + PAD.encode() * len(tokens)
    kept = data[: len(data) // 2] if state.options.slot_fault == "torn" else data
    if state.options.slot_fault != "lost":
        try:
            file.write_bytes(kept)
        except OSError as error:
            state.write_line(f"cannot save a slot: {error}")  # and answers 200, as llama-server
    return {"id_slot": at, "filename": file.name, "n_saved": len(tokens), "n_written": len(data)}


def _restore(state: SimState, at: int, file: Path) -> Json:
    try:
        data = file.read_bytes()
        tokens = json.loads(data)[1]
    except (OSError, ValueError):
        raise Refusal(400, "Unable to restore slot: invalid slot save file") from None
    if state.options.slot_fault != "noop":
        state.slots[at] = SlotContent(tokens)
    return {
        "id_slot": at, "filename": file.name, "n_restored": len(tokens), "n_read": len(data)
    }  # fmt: skip


def _require_slots(options: SimOptions) -> None:
    if options.slot_fault == "none":
        raise Refusal(501, "This server does not support slots endpoint.", "not_supported_error")


ROUTES = (Route("/slots", slots, GET), Route("/slots/", act))
