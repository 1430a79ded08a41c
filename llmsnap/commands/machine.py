"""What may be said about a configuration on this machine: programs, files, ports."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmsnap.config.advice import local_port
from llmsnap.config.command import split
from llmsnap.config.nodes import Node, find
from llmsnap.config.report import Report
from llmsnap.config.settings import Config, ModelConfig

_SHELL_SIGNS = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "<", "2>&1"})
_SECRET = re.compile(r"key|token|secret|passw|auth", re.IGNORECASE)
_FILE = re.compile(r"(?:\.{0,2}/)[^:=]*\.[A-Za-z0-9]{1,12}")
# These run their words elsewhere, where other files exist.
_ELSEWHERE = ("docker", "podman", "nerdctl", "ssh", "kubectl", "wsl")


def advise(config: Config, tree: Node | None, report: Report, environ: Mapping[str, str]) -> None:
    """Add to *report* what this machine lacks, or has taken, of what *config* needs."""
    in_use = _ports_in_use(
        {port for model in config.models.values() if (port := local_port(model))}
    )
    for model in config.models.values():
        path = ("models", model.id, "cmd")
        at = find(tree, path)
        for what, fix in _about_command(model, environ):
            report.advise(path, what, fix, at)
        port = local_port(model)
        if port in in_use:
            what = f"port {port} is in use at the moment"
            report.advise(path, what, "stop what listens there, or choose another port", at)


def _about_command(model: ModelConfig, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    program, *words = split(model.cmd)
    found = shutil.which(program, path=environ.get("PATH", os.defpath))
    if found is None:
        where = "is no executable file" if "/" in program else "is not on PATH"
        yield f"{program} {where}", "install it, or write its whole path"
    if _SHELL_SIGNS.intersection(words):
        yield "no shell runs the command, so | > && and the like are plain words", "use sh -c '...'"
    if Path(program).name in _ELSEWHERE:
        return
    for word in _shown_words(words):
        if word.startswith("~/"):
            yield f"{word} stays as it is: no shell replaces ~", "write the whole path"
        elif _FILE.fullmatch(word) and not os.access(word, os.F_OK):
            yield f"{word} does not exist", "correct the path, or create the file"


def _shown_words(words: list[str]) -> Iterator[str]:
    """Yield the words that may be shown: not those that follow ``--api-key`` or the like."""
    option = ""
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            option = name
        if not _SECRET.search(option):
            yield value if equals and word.startswith("-") else word


def _ports_in_use(ports: set[int]) -> set[int]:
    return {port for port in ports if not _is_free(port)}


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return True  # below 1024: nothing can be said
        except OSError:
            return False
    return True
