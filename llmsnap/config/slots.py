"""Whether the command of a model starts a server that can save its slots. Pure.

Only llama-server can. Its slots are the prompts that it keeps after it has answered.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath

from llmsnap.errors import CommandProblem

from .scalars import split_command

SLOT_OPTION = "--slot-save-path"
SERVERS = frozenset({"llama-server", "xllama_server.py", "simulated_llama.py"})
"""Programs whose commands get SLOT_OPTION: llama-server, and what the demo starts in its place."""


def is_llama_server(words: list[str]) -> bool:
    """Whether a command starts llama-server itself, or what the demo starts in its place."""
    names = [PurePath(word).name for word in words[:2]]
    if names and names[0].startswith("python"):
        names = names[1:]
    return bool(names) and names[0] in SERVERS


def slot_folder(words: list[str]) -> str:
    """Return the folder that a command gives its server for slots; empty: none."""
    return next((after for word, after in pairwise(words) if word == SLOT_OPTION), "")


def command_words(command: str) -> list[str]:
    """Return the words of a command; one that has the option inside, as for a shell, is split."""
    try:
        words = split_command(command)
    except CommandProblem:
        words = command.split()
    found: list[str] = []
    for word in words:
        found += command_words(word) if f"{SLOT_OPTION} " in word else [word]
    return found
