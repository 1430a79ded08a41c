"""``llmsnap cache``: the prompts that are kept over swaps, and their deletion.

Works on the files, so that no server has to run, and beside one that does: it may delete a file
that a server is about to restore, which then reads the prompt again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from llmsnap.config import Config, Sources, load
from llmsnap.errors import CommandFailed
from llmsnap.models import PromptFiles, model_key, stores
from llmsnap.options import Options, from_environ
from llmsnap.statedir import find
from llmsnap.suggestions import nearest, shown

DESCRIPTION = "The prompts that are kept over swaps (promptCache), by model; clear deletes them."
MB = 1e6


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="llmsnap cache", description=DESCRIPTION, allow_abbrev=False
    )
    add = parser.add_argument
    add("action", nargs="?", choices=("list", "clear"), default="list", help="default: list")
    add("model", nargs="?", default="", metavar="MODEL", help="only the prompts of this model")
    add("--config", metavar="FILE", help="as the server's (config.yaml)")
    add("--config-dir", metavar="DIR", help="as the server's")
    add("--state-dir", metavar="DIR", help="as the server's")
    return parser


def main(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    out = out or sys.stdout
    given = from_environ(environ)
    names = ("config", "config_dir", "state_dir")
    options = Options(**{name: getattr(args, name) or given.get(name, "") for name in names})
    config = load(Sources(*options.config_paths))
    if args.model and args.model not in config.models:
        fix = nearest(args.model, config.models)
        hint = f"; did you mean {fix[0]}?" if fix else ""
        raise CommandFailed(f"there is no model {shown(args.model)!r}{hint}")
    state = find(options.config_paths, options.state_dir, environ)
    found = stores(config.prompt_cache, state, config.models.values()).values()
    if args.action == "clear":
        _clear(found, model_key(args.model) if args.model else "", out)
    else:
        _list(found, config, args.model, out)
    return 0


def _clear(found: Iterable[PromptFiles], model: str, out: TextIO) -> None:
    for files in found:
        gone = files.clear(model)
        if not model:
            files.clear_parts()
        size = sum(file.size for file in gone)
        out.write(f"{files.folder}: {_count(len(gone))} deleted, {size / MB:.1f} MB\n")


def _list(found: Iterable[PromptFiles], config: Config, wanted: str, out: TextIO) -> None:
    names = {model_key(model_id): model_id for model_id in config.models}
    for files in found:
        out.write(f"{files.folder}\n")
        kept = files.all()
        if not kept:
            out.write("  no prompts are kept\n")
        for key in dict.fromkeys(file.model for file in kept):
            name = names.get(key, "(no model any more)")
            mine = [file for file in kept if file.model == key]
            tokens, size = sum(file.tokens for file in mine), sum(file.size for file in mine)
            if wanted in ("", name):
                out.write(f"  {name}: {_count(len(mine))}, {tokens} tokens, {size / MB:.1f} MB\n")


def _count(prompts: int) -> str:
    return "1 prompt" if prompts == 1 else f"{prompts} prompts"
