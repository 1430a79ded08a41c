"""The table of subcommands: their modules, arguments and requirements.

Standard library only, because the entry point reads it before anything else is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Takes(StrEnum):
    """The kind of a command's arguments, for shell completion."""

    NOTHING = ""
    FILES = "files"
    MODELS = "models"
    LOGS = "logs"
    SHELLS = "shells"


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One command. Its function *main* takes the arguments and returns the exit code.

    *waits*: it works concurrently and therefore needs the event loop, which adds a third of a
    second to its start.
    """

    module: str
    about: str
    takes: Takes = Takes.NOTHING
    waits: bool = False
    main: str = "main"
    parser: str = "build_parser"

    def load(self) -> tuple[Callable[[], ArgumentParser], Callable[[Sequence[str]], int]]:
        """Import the module; return its parser function and its main function."""
        module = importlib.import_module(self.module)
        return getattr(module, self.parser), getattr(module, self.main)


def _of_models(name: str, about: str, takes: Takes = Takes.MODELS) -> Subcommand:
    """Return the command *name* of the module ``models``."""
    module = "llmsnap.commands.models"
    return Subcommand(module, about, takes, main=name, parser=f"{name}_parser")


def _of_decisions(name: str, about: str, takes: Takes) -> Subcommand:
    """Return the command *name* of the module ``decisions``."""
    module = "llmsnap.commands.decisions"
    return Subcommand(module, about, takes, main=name, parser=f"{name}_parser")


COMMANDS = {
    "check": Subcommand(
        "llmsnap.commands.check", "check a configuration for errors and advice", Takes.FILES
    ),
    "doctor": Subcommand(
        "llmsnap.commands.doctor",
        "hardware, and what is likely to fail",
        Takes.FILES,
        waits=True,
    ),
    "cache": Subcommand(
        "llmsnap.commands.cache", "the prompts that are kept over swaps", waits=True
    ),
    "ps": _of_models("ps", "the models of a running server and their state", Takes.NOTHING),
    "load": Subcommand("llmsnap.commands.load", "make a model ready", Takes.MODELS, waits=True),
    "sleep": _of_models("sleep", "put a model to sleep"),
    "unload": _of_models("unload", "stop a model, or all"),
    "profile": _of_models("profile", "the profiles, or which is active", Takes.NOTHING),
    "plan": _of_decisions("plan", "what loading a model would do", Takes.MODELS),
    "why": _of_decisions("why", "why a swap was done, or a request waits", Takes.NOTHING),
    "logs": Subcommand("llmsnap.commands.logs", "the log of the server or of a model", Takes.LOGS),
    "bench": Subcommand(
        "llmsnap.commands.bench", "measure a model's latency and speed", Takes.MODELS, waits=True
    ),
    "sim": Subcommand(
        "llmsnap.simulator.server", "an inference server without a model", waits=True
    ),
    "completion": Subcommand(
        "llmsnap.commands.completion", "completion for your shell", Takes.SHELLS
    ),
    "version": Subcommand(
        "llmsnap.cli", "which version and commit this is", main="version", parser="version_parser"
    ),
}


def is_light(argv: Sequence[str]) -> bool:
    """Whether ``llmsnap *argv`` is a command that does not need the event loop."""
    if argv and argv[0] in COMMANDS:
        return not COMMANDS[argv[0]].waits or not {"-h", "--help"}.isdisjoint(argv)
    return not {"-h", "-help", "--help", "-version", "--version"}.isdisjoint(argv)
