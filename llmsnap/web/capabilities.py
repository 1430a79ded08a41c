"""The members of a model's record that clients filter by, in the forms they read."""

from __future__ import annotations

from typing import Any

from llmsnap.config import Capabilities

CAPABILITY_MEMBERS = frozenset(
    {"architecture", "capabilities", "supported_parameters", "context_length"}
)
"""Replace the metadata of these names."""


def speaks(said: Capabilities) -> bool:
    """Return whether a model generates speech."""
    return "text" in said.inputs and "audio" in said.outputs


def capability_members(said: Capabilities, length: int | None) -> dict[str, Any]:
    """Return the capability members that clients filter by; unknown and false ones are left out."""
    takes, gives = said.inputs, said.outputs
    modalities = {"input_modalities": list(takes), "output_modalities": list(gives)}
    architecture: dict[str, Any] = {name: found for name, found in modalities.items() if found}
    if takes and gives:
        architecture["modality"] = f"{'+'.join(takes)}->{'+'.join(gives)}"
    can = {
        "vision": "image" in takes,
        "audio_transcriptions": "audio" in takes and "text" in gives,
        "audio_speech": speaks(said),
        "image_generation": "text" in takes and "image" in gives,
        "image_to_image": "image" in takes and "image" in gives,
        "function_calling": said.tools,
        "reranker": said.reranker,
    }
    members: dict[str, Any] = {
        "architecture": architecture,
        "capabilities": {name: True for name, is_so in can.items() if is_so},
        "supported_parameters": ["tools", "tool_choice"] if said.tools else [],
        "context_length": length,
    }
    return {name: found for name, found in members.items() if found}
