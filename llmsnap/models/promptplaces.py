"""Where the prompts of a model are kept, and what determines whether they still fit it.

Everything that reads files blocks on the file system.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from llmsnap.config import (
    ModelConfig,
    PromptCacheConfig,
    command_words,
    is_llama_server,
    slot_folder,
)
from llmsnap.errors import NoSlots
from llmsnap.memory import WEIGHT_SUFFIXES, model_files
from llmsnap.models.promptfiles import PromptFiles
from llmsnap.statedir import StateDir

FOLDER = "prompt-cache"

FileState = tuple[int, int, int]
"""Inode, size and time of change in nanoseconds."""


def stores(
    settings: PromptCacheConfig, state: StateDir, models: Iterable[ModelConfig]
) -> dict[Path, PromptFiles]:
    """Return the folders that may have prompts of *models*, and the one by *settings*."""
    folders = [_own_place(settings, state)]
    folders += [folder_of(model, settings, state)[0] for model in models if model.prompt_cache]
    return {folder: PromptFiles(folder, state.instance) for folder in folders if folder is not None}


def folder_of(
    model: ModelConfig, settings: PromptCacheConfig, state: StateDir
) -> tuple[Path | None, bool]:
    """Return where a model's server saves prompts, and whether its command says so itself."""
    words = command_words(model.cmd)
    if own := slot_folder(words):
        return Path(own).absolute(), True
    return (_own_place(settings, state) if is_llama_server(words) else None), False


def _own_place(settings: PromptCacheConfig, state: StateDir) -> Path | None:
    if settings.dir:
        return Path(settings.dir).expanduser().absolute()
    return state.path.absolute() / FOLDER if state.is_writable else None


def model_key(model_id: str) -> str:
    """Return what stands for a model in the names of files."""
    return hashlib.sha256(model_id.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def files_of(cmd: str, model_path: str = "") -> dict[str, FileState]:
    """Return the state of the program of a command and of all weights it names. Blocks.

    *model_path*: as the server reports it, which may have found the file by another option. Raises:
    OSError.
    """
    words = command_words(cmd)
    programs = [shutil.which(words[0]) or ""] + [word for word in words[1:2] if word[:1] != "-"]
    parts = [part for word in words for part in re.split("[=,:]", word)]
    weights = [part for part in [*words, *parts] if Path(part).suffix in WEIGHT_SUFFIXES]
    paths = [path for path, _ in model_files([*weights, model_path])]
    found = {}
    for path in {*programs, *paths} - {""}:
        if os.path.isfile(path):  # noqa: PTH113 - a Path cannot hold every word
            status = os.stat(path)  # noqa: PTH116
            found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def libraries(pid: int | None) -> str:
    """Return the state of the programs and libraries of a process. Raises: NoSlots. Blocks."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        fields = [line.split(maxsplit=5) for line in lines]
        paths = {
            each[5] for each in fields if len(each) == 6 and "x" in each[1] and each[5][0] == "/"
        }
        states = [(path, os.stat(path)) for path in sorted(paths)]  # noqa: PTH116 - as above
    except OSError:
        raise NoSlots("its server does not say which build it is") from None
    return repr([(path, status.st_mtime_ns, status.st_size) for path, status in states])
