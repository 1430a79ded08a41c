"""Which commands there are besides serving, where they live, and what they need.

Standard library only: the door reads it before anything else is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Takes(StrEnum):
    """What the arguments of a command may be: for shells that complete them."""

    NOTHING = ""
    FILES = "files"
    MODELS = "models"
    LOGS = "logs"
    SHELLS = "shells"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its module has ``build_parser()`` and ``main(argv) -> int``.

    *waits*: it does several things at once, and so needs the event loop, which costs a third of a
    second at the start.
    """

    module: str
    about: str
    takes: Takes = Takes.NOTHING
    waits: bool = False


COMMANDS = {
    "check": Command(
        "llmsnap.commands.check", "what is wrong or odd with a configuration", Takes.FILES
    ),
    "ps": Command("llmsnap.commands.ps", "the models of a running server and their state"),
    "load": Command("llmsnap.commands.load", "make a model ready", Takes.MODELS, waits=True),
    "sleep": Command("llmsnap.commands.sleep", "put a model to sleep", Takes.MODELS),
    "unload": Command("llmsnap.commands.unload", "stop a model, or all", Takes.MODELS),
    "logs": Command("llmsnap.commands.logs", "the log of the server or of a model", Takes.LOGS),
    "bench": Command(
        "llmsnap.commands.bench", "measure a model's latency and speed", Takes.MODELS, waits=True
    ),
    "sim": Command("llmsnap.simulator.server", "an inference server without a model", waits=True),
    "completion": Command("llmsnap.commands.completion", "completion for your shell", Takes.SHELLS),
    "version": Command("llmsnap.commands.version", "which version and commit this is"),
}


def is_light(argv: Sequence[str]) -> bool:
    """Whether ``llmsnap *argv`` does one thing after the other, and ends by itself."""
    if argv and argv[0] in COMMANDS:
        return not COMMANDS[argv[0]].waits or not {"-h", "--help"}.isdisjoint(argv)
    return not {"-h", "-help", "--help", "-version", "--version"}.isdisjoint(argv)
