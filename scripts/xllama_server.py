"""llama.cpp's HTTP server from the ``xllamacpp`` wheel, with llama-server's command line.

    xllama_server.py --model FILE [--alias NAME] [--port N] ... [--check]

The demo and the tests run it where no llama-server is on PATH. It takes the options listed in
``OPTIONS`` and refuses others. llama.cpp's log goes to stderr. SIGTERM and SIGINT end the process
at once, also while the model loads; on Linux it ends with its parent as well. ``--check`` loads the
model, generates one token and exits with status 0, which proves that this processor has every
instruction that the wheel uses.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Option:
    """One llama-server option: its names and how its value gets into ``CommonParams``."""

    names: tuple[str, ...]
    apply: Callable[[Any, Any], None]
    kind: Callable[[str], Any] | None = str
    """Converts the value; ``None`` for a switch, which takes no value."""


def setter(path: str) -> Callable[[Any, Any], None]:
    """Return a function that assigns to the dotted attribute *path* of the parameters."""
    *parents, last = path.split(".")

    def assign(params: Any, value: Any) -> None:
        for name in parents:
            params = getattr(params, name)
        setattr(params, last, value)

    return assign


def switch(path: str, value: bool) -> Callable[[Any, Any], None]:
    """Return a function that assigns *value* when the switch is given."""
    assign = setter(path)
    return lambda params, _: assign(params, value)


def pooling(params: Any, name: str) -> None:
    """Set the pooling type. Raises: ValueError for a name that llama.cpp does not know."""
    kinds = {
        each.name.removeprefix("LLAMA_POOLING_TYPE_").lower(): each
        for each in type(params.pooling_type)
    }
    if name not in kinds or name == "unspecified":
        known = ", ".join(sorted(set(kinds) - {"unspecified"}))
        raise ValueError(f"--pooling {name}: unknown; choose one of {known}")
    params.pooling_type = kinds[name]


def reranking(params: Any, _: Any) -> None:
    """Serve /rerank, which llama.cpp does with embeddings of pooling type "rank"."""
    params.embedding = True
    pooling(params, "rank")


def threads(params: Any, count: int) -> None:
    """Use *count* threads for prompts and for generation."""
    params.cpuparams.n_threads = count
    params.cpuparams_batch.n_threads = count


def save_slots(params: Any, path: str) -> None:
    """Set the folder of saved prompt caches; llama.cpp wants it to end with a separator."""
    params.slot_save_path = os.path.join(path, "")  # noqa: PTH118 - pathlib drops the separator


OPTIONS = (
    Option(("-m", "--model"), setter("model.path")),
    Option(("-a", "--alias"), lambda params, name: setter("model_alias")(params, {name})),
    Option(("--host",), lambda params, host: setter("hostnames")(params, [host])),
    Option(("--port",), setter("port"), int),
    Option(("--api-key",), lambda params, key: setter("api_keys")(params, [key])),
    Option(("-c", "--ctx-size"), setter("n_ctx"), int),
    Option(("-np", "--parallel"), setter("n_parallel"), int),
    Option(("-b", "--batch-size"), setter("n_batch"), int),
    Option(("-ub", "--ubatch-size"), setter("n_ubatch"), int),
    Option(("-t", "--threads"), threads, int),
    Option(("--threads-http",), setter("n_threads_http"), int),
    Option(("-n", "--predict", "--n-predict"), setter("n_predict"), int),
    Option(("-s", "--seed"), setter("sampling.seed"), int),
    Option(("--temp",), setter("sampling.temp"), float),
    Option(("--top-k",), setter("sampling.top_k"), int),
    Option(("--top-p",), setter("sampling.top_p"), float),
    Option(("--min-p",), setter("sampling.min_p"), float),
    Option(("--repeat-penalty",), setter("sampling.penalty_repeat"), float),
    Option(("--chat-template",), setter("chat_template")),
    Option(("--embeddings", "--embedding"), switch("embedding", True), None),
    Option(("--pooling",), pooling),
    Option(("--reranking", "--rerank"), reranking, None),
    Option(("--slot-save-path",), save_slots),
    Option(("--jinja",), switch("use_jinja", True), None),
    Option(("--no-jinja",), switch("use_jinja", False), None),
    Option(("--swa-full",), switch("swa_full", True), None),
    Option(("--metrics",), switch("endpoint_metrics", True), None),
    Option(("--no-warmup",), switch("warmup", False), None),
    Option(("--no-repack", "-nr"), switch("no_extra_bufts", True), None),
    Option(("--no-ui", "--no-webui"), switch("ui", False), None),
)


def parse(arguments: list[str]) -> tuple[Mapping[Option, Any], bool]:
    """Return the options given, with their values, and whether ``--check`` was.

    Exits with status 2 where an option is unknown or a value has the wrong type.
    """
    parser = argparse.ArgumentParser(
        prog="xllama_server.py",
        usage="%(prog)s --model FILE [option ...]",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for number, option in enumerate(OPTIONS):
        taken: dict[str, Any] = {"action": "store_true"} if option.kind is None else {}
        if option.kind is not None:
            taken = {"type": option.kind, "metavar": "VALUE"}
        parser.add_argument(
            *option.names, dest=str(number), required="--model" in option.names, **taken
        )
    parser.add_argument("--check", action="store_true", default=False)
    found = vars(parser.parse_args(arguments))
    check = found.pop("check")
    return {OPTIONS[int(number)]: value for number, value in found.items()}, check


def configured(params: Any, options: Mapping[Option, Any]) -> Any:
    """Return *params* with llama-server's defaults and the *options*. Raises: ValueError."""
    setter("hostnames")(params, [LOOPBACK])
    params.port = 8080
    for option, value in options.items():
        option.apply(params, value)
    return params


def end_with_parent() -> None:
    """Request SIGTERM from the kernel at the parent's exit; signals end the process at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            sys.exit(1)


def main(arguments: list[str]) -> int:
    """Serve until a signal ends the process. Returns 1 or 2 if the model cannot be served."""
    end_with_parent()
    options, check = parse(arguments)
    import xllamacpp  # noqa: PLC0415 - takes a second, and an old processor may end here

    try:
        params = configured(xllamacpp.CommonParams(), options)
    except ValueError as error:
        print(f"xllama_server.py: {error}", file=sys.stderr)
        return 2
    if check:
        params.port = 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        print(f"xllama_server.py: {params.model.path} cannot be served: {error}", file=sys.stderr)
        return 1
    if check:
        server.handle_completions({"prompt": "A llama is", "n_predict": 1})
        return 0
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
