"""``llmsnap completion SHELL``: a script that completes commands, options and models.

Everything in it comes from the parsers of the commands, so that it cannot be out of date.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from llmsnap.commands.catalog import COMMANDS
from llmsnap.commands.shells import SCRIPTS, Option

DESCRIPTION = "Print a script that completes llmsnap's commands, options and models."
EPILOG = (
    "bash: source <(llmsnap completion bash) in ~/.bashrc; "
    "zsh: source <(llmsnap completion zsh) in ~/.zshrc, after compinit; "
    "fish: llmsnap completion fish > ~/.config/fish/completions/llmsnap.fish"
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="llmsnap completion", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="which shell reads it")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    from llmsnap.cli import build_parser as build_server_parser  # noqa: PLC0415 - it imports us

    sys.stdout.write(SCRIPTS[args.shell](_options(build_server_parser()), _all_commands()))
    return 0


def _all_commands() -> dict[str, list[Option]]:
    return {
        name: _options(importlib.import_module(command.module).build_parser())
        for name, command in COMMANDS.items()
    }


def _options(parser: argparse.ArgumentParser) -> list[Option]:
    """Return what *parser* accepts; argparse has no other way to ask."""
    return [
        Option(
            tuple(action.option_strings),
            (action.help or "").partition(" (")[0].partition(":")[0].partition(";")[0],
            "" if action.nargs in (0, "?") else str(action.metavar or action.dest.upper()),
            tuple(map(str, action.choices or ())),
        )
        for action in parser._actions  # noqa: SLF001 - see above
        if action.option_strings and action.help != argparse.SUPPRESS
    ]
