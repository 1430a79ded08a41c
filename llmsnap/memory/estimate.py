"""The memory that a server will need, estimated from its command and its model files.

Estimates stand in until a load was measured. They err on the high side: a model that is thought
too large evicts one model too many, one that is thought too small fails to load.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from llmsnap.config import split_command
from llmsnap.errors import CommandProblem
from llmsnap.memory.gguf import BadGguf, Gguf, read

MIB = 1024**2
UNKNOWN_FACTOR = 1.15
"""Of a file's size, where its metadata cannot be read."""
BUFFERS = 0.03
"""Compute buffers as a share of the weights, and at least LEAST_BUFFERS."""
LEAST_BUFFERS = 128 * MIB
VLLM_SHARE = 0.9
"""vLLM's default of ``--gpu-memory-utilization``."""
BYTES_PER_VALUE = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
"""Of the key and value cache, by the names of ``--cache-type-k``."""
MODEL_OPTIONS = ("-m", "--model", "--mmproj", "--lora", "-md", "--model-draft")
OPTIONS = {
    "-m": "model", "--model": "model", "--mmproj": "mmproj", "--lora": "lora",
    "-md": "draft", "--model-draft": "draft",
    "-c": "context", "--ctx-size": "context",
    "-ngl": "layers", "--gpu-layers": "layers", "--n-gpu-layers": "layers",
    "-np": "slots", "--parallel": "slots", "-ub": "batch", "--ubatch-size": "batch",
    "-ctk": "keys", "--cache-type-k": "keys", "-ctv": "values", "--cache-type-v": "values",
    "-ncmoe": "cpu_moe", "--n-cpu-moe": "cpu_moe",
    "-ts": "split", "--tensor-split": "split", "-mg": "main", "--main-gpu": "main",
    "-sm": "mode", "--split-mode": "mode", "-dev": "devices", "--device": "devices",
    "-fit": "fit", "--fit": "fit",
    "-tp": "parallel", "--tensor-parallel-size": "parallel",
    "--gpu-memory-utilization": "share",
}  # fmt: skip
FLAGS = {
    "-cmoe": ("cpu_moe", "999"), "--cpu-moe": ("cpu_moe", "999"), "--swa-full": ("swa_full", "1"),
}  # fmt: skip
FULL_LAYER = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "llama4": 4,
}  # fmt: skip
"""Every how many layers one attends to the whole context, in models of these architectures."""
DEFAULT_SLOTS, DEFAULT_BATCH = 4, 512
"""Of llama-server: its slots (older versions have one), and the tokens of a physical batch."""
SPLIT_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
EXPERTS = re.compile(r"blk\.(\d+)\.ffn_.*_exps\.")
WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx"})
MAX_FILES = 1024
CPU = frozenset({"none", "cpu"})


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on GPUs (together) and in RAM, and where the figures come from.

    *gpu_share* is vLLM's part of each card's capacity, which replaces *gpu*. *split* is the
    relative load of each GPU, empty for an even one. *is_fixed* is false where the server fits
    itself to the memory that it finds free: a crowded load then measures less than it would use.
    """

    gpu: int
    ram: int
    source: str
    gpu_share: float | None = None
    split: tuple[float, ...] = ()
    is_fixed: bool = True


class ServerOptions:
    """The options of a server's command that concern its memory."""

    def __init__(self, cmd: str) -> None:
        try:
            self.words: Sequence[str] = split_command(cmd)
        except CommandProblem:
            self.words = cmd.split()
        self._found: dict[str, str] = {}
        self._files: list[str] = []
        for name, value in _pairs(self.words):
            self._found[OPTIONS[name]] = value
            if name in MODEL_OPTIONS:
                self._files.append(value)
        for word in self.words:
            if word in FLAGS:
                self._found.setdefault(*FLAGS[word])

    @property
    def files(self) -> list[str]:
        """The model files and folders that the command names, in its order."""
        return list(self._files)

    @property
    def is_vllm(self) -> bool:
        """Whether the command starts vLLM, directly or as a Python module."""
        names = [PurePath(word).name for word in self.words[:4]]
        return "vllm" in names or any(name.startswith("vllm.") for name in names)

    def text(self, name: str, default: str = "") -> str:
        """Return an option's value."""
        return self._found.get(name, default)

    def number(self, name: str) -> float | None:
        """Return an option's value; None where it is absent, or a word such as ``auto``."""
        try:
            return float(self._found[name])
        except (KeyError, ValueError):
            return None

    def split(self) -> tuple[float, ...]:
        """Return the relative load of each GPU; empty where the command says nothing about it."""
        if self.text("mode") == "none":
            return (*[0.0] * int(self.number("main") or 0), 1.0)
        try:
            return tuple(float(part) for part in re.split("[,/]", self.text("split")))
        except ValueError:
            return ()


def estimate(cmd: str, *, has_gpu: bool, metadata: Callable[[str], Gguf] = read) -> Estimate | None:
    """Return what the server of *cmd* needs; None where the command says nothing. Blocks on files.

    *has_gpu*: whether layers are placed on a GPU where the command does not say.
    """
    options = ServerOptions(cmd)
    if options.is_vllm and has_gpu:
        share = options.number("share") or VLLM_SHARE
        return Estimate(0, 0, "vLLM's --gpu-memory-utilization", gpu_share=min(share, 1.0))
    sizes = {name: file_size(name) for name in options.files}
    if not sum(sizes.values()):
        return None
    model = options.text("model")
    try:
        found = metadata(first_part(model)) if model.endswith(".gguf") else None
    except (OSError, BadGguf):
        found = None
    if found is None or not found.number("block_count"):
        return _by_size(options, sum(sizes.values()), has_gpu=has_gpu)
    others = sum(size for name, size in sizes.items() if name != model)
    return _by_metadata(options, found, sizes[model], others, has_gpu=has_gpu)


def _by_size(options: ServerOptions, size: int, *, has_gpu: bool) -> Estimate:
    total = int(size * UNKNOWN_FACTOR)
    on_gpu = has_gpu and options.number("layers") != 0 and options.text("devices") not in CPU
    source = f"{UNKNOWN_FACTOR} x the size of its files"
    return Estimate(total if on_gpu else 0, 0 if on_gpu else total, source, split=options.split())


def _by_metadata(
    options: ServerOptions, model: Gguf, weights: int, others: int, *, has_gpu: bool
) -> Estimate:
    """Return the estimate for llama.cpp: weights, cache and buffers, by layers on GPU and CPU."""
    count = model.number("block_count") or 1
    share = _gpu_share(options, count, has_gpu=has_gpu)
    cache = cache_bytes(model, options)
    around = others + max(LEAST_BUFFERS, int(weights * BUFFERS))
    placed = int((weights - _experts_in_ram(options, model) + cache) * share)
    left = weights + cache - placed
    return Estimate(
        gpu=placed + around if share else 0,
        ram=left if share else left + around,
        source="the model file's metadata",
        split=options.split(),
        is_fixed=not share
        or (options.number("layers") is not None and options.text("fit") != "on"),
    )


def _gpu_share(options: ServerOptions, layers: int, *, has_gpu: bool) -> float:
    """Return the share of the layers on GPUs; llama-server places all there by default."""
    if not has_gpu or options.text("devices") in CPU:
        return 0.0
    wanted = options.number("layers")
    return 1.0 if wanted is None or wanted < 0 else min(1.0, wanted / (layers + 1))


def _experts_in_ram(options: ServerOptions, model: Gguf) -> int:
    """Return the bytes of the experts, of the first layers, that ``--n-cpu-moe`` keeps in RAM."""
    first = options.number("cpu_moe") or 0
    return sum(
        size
        for name, size in model.sizes.items()
        if (found := EXPERTS.match(name)) and int(found[1]) < first
    )


def cache_bytes(model: Gguf, options: ServerOptions, *, swa_full: bool = False) -> int:
    """Return the size of the key and value cache of a llama.cpp server.

    Layers with a sliding window keep the window of each slot and one batch. Which ones they are
    is known for some architectures; those of others, and with *swa_full* all, are counted in full.
    """
    layers = model.number("block_count") or 0
    heads = model.number("attention.head_count") or 1
    width = (model.number("embedding_length") or 0) // max(heads, 1)
    context = int(options.number("context") or 0) or model.number("context_length") or 4096
    key = (model.number("attention.key_length") or width) * _value_size(options, "keys")
    value = (model.number("attention.value_length") or width) * _value_size(options, "values")
    name = "attention.head_count_kv"
    each = model.layers(name if model.get(name) is not None else "attention.head_count", layers)
    every = FULL_LAYER.get(model.architecture, 1)
    window = model.number("attention.sliding_window") or context
    slots = options.number("slots") or DEFAULT_SLOTS
    kept = window * max(1, slots) + (options.number("batch") or DEFAULT_BATCH)
    if swa_full or options.text("swa_full"):
        kept = context
    tokens = sum(
        heads_kv * (context if number % every == every - 1 else min(context, kept))
        for number, heads_kv in enumerate(each)
    )
    return int(tokens * (key + value))


def swa_full_bytes(cmd: str, model: str = "") -> int:
    """Return how much larger ``--swa-full`` makes the cache of a llama.cpp server, at most.

    0 where the model has no sliding window, or the command has the option. *model* is the file of a
    command that names none. Blocks on files.
    """
    options = ServerOptions(cmd)
    try:
        found = read(first_part(options.text("model") or model))
    except (OSError, BadGguf):
        return 0
    window = found.number("attention.sliding_window") or 0
    context = int(options.number("context") or 0) or found.number("context_length") or 4096
    if "--swa-full" in options.words or not 0 < window < context:
        return 0
    return int(cache_bytes(found, options, swa_full=True) * (1 - window / context))


def _value_size(options: ServerOptions, name: str) -> float:
    return BYTES_PER_VALUE.get(options.text(name, "f16"), 2.0)


def first_part(path: str) -> str:
    """Return the file with the metadata: the first part of a split model."""
    found = SPLIT_PART.fullmatch(path)
    return f"{found[1]}-00001-of-{found[2]}.gguf" if found else path


def model_files(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield (path, size) of the weight files behind *names*: all parts, all files of a folder.

    Blocks on the file system; what does not exist is left out.
    """
    for name in names:
        path = Path(name)
        try:
            if path.is_dir():
                with os.scandir(path) as entries:
                    found = [Path(entry.path) for entry in islice(entries, MAX_FILES)]
                paths = [one for one in sorted(found) if one.suffix in WEIGHT_SUFFIXES]
            else:
                paths = list(_parts(path))
            for one in paths:
                yield str(one), one.stat().st_size
        except (OSError, ValueError):
            continue


def _parts(path: Path) -> Iterator[Path]:
    found = SPLIT_PART.fullmatch(str(path))
    if found is None:
        yield path
        return
    for number in range(1, min(int(found[2]), MAX_FILES) + 1):
        yield Path(f"{found[1]}-{number:05}-of-{found[2]}.gguf")


def files_bytes(cmd: str) -> int:
    """Return the bytes of the model files that a command names. Blocks on the file system."""
    return sum(size for _, size in model_files(ServerOptions(cmd).files))


def file_size(name: str) -> int:
    """Return the bytes of the weights behind one name of a command; 0 where there are none."""
    return sum(size for _, size in model_files([name]))


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (option, value) of the known options, written ``-c 4096`` or ``--ctx-size=4096``."""
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in OPTIONS:
            continue
        if equals:
            yield name, value
        elif at + 1 < len(words):
            yield name, words[at + 1]
