"""The command line of the simulator, parsed into one frozen value."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said; the defaults are those of a fast, healthy server."""

    host: str = "127.0.0.1"
    port: int = 8080
    model: str = "simulated"
    strict_model: bool = False
    n_ctx: int = 4096
    dimensions: int = 64
    respond: str = ""
    silent: bool = False
    echo_requests: bool = False
    timings: bool = False

    load_time: float = 0.0
    load_mode: str = "closed"
    prompt_time: float = 0.0
    tokens_per_second: float = 0.0
    tokens: int = 0
    sleep_time: float = 0.0
    wake_time: float = 0.0
    memory: int = 0

    exit_at_start: int | None = None
    exit_after_requests: int = 0
    exit_after: float = 0.0
    exit_code: int = 1
    hang: bool = False
    never_healthy: bool = False
    ignore_sigterm: bool = False
    fork_grandchild: bool = False
    grandchild_new_session: bool = False
    flood: int = 0
    break_stream_after: int = 0
    fail_sleep: bool = False
    fail_wake: bool = False
    hang_sleep: bool = False
    die_on_sleep: bool = False
    die_on_wake: bool = False
    corrupt_after_wake: bool = False


def parse(argv: list[str] | None = None) -> Options:
    """Return the options in *argv*; an unknown or malformed one ends the program with 2."""
    parser = argparse.ArgumentParser(
        prog="llmsnap sim",
        description="An inference server without a model.",
        allow_abbrev=False,
    )
    _add_server(parser)
    _add_speed(parser)
    _add_lifetime_faults(parser)
    _add_request_faults(parser)
    return Options(**vars(parser.parse_args(argv)))


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def _add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    add = group.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=_count, default=8080, help="port, 0 for any (default %(default)s)")
    add("--model", default="simulated", metavar="NAME", help="the model it claims to serve")
    add("--strict-model", action="store_true", help="answer 404 to any other model name")
    add("--n-ctx", type=_count, default=4096, metavar="N", help="context size told by /props")
    add("--dimensions", type=_count, default=64, metavar="N", help="length of embeddings")
    add("--respond", default="", metavar="TEXT", help="answer every prompt with this text")
    add("--silent", action="store_true", help="no line per request")
    add("--echo-requests", action="store_true", help="show the request in each JSON answer")
    add("--timings", action="store_true", help="llama-server's timings in each answer")


def _add_speed(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speed and size")
    add = group.add_argument
    add("--load-time", type=_amount, default=0.0, metavar="S", help="seconds until it serves")
    add(
        "--load-mode",
        choices=("closed", "503"),
        default="closed",
        help="while loading: the port is closed, or /health answers 503 (default %(default)s)",
    )
    add("--prompt-time", type=_amount, default=0.0, metavar="S", help="before the first token")
    add(
        "--tokens-per-second",
        type=_amount,
        default=0.0,
        metavar="N",
        help="speed of generation, 0 for unlimited (default)",
    )
    add("--tokens", type=_count, default=0, metavar="N", help="length of an answer, 0: natural")
    add("--sleep-time", type=_amount, default=0.0, metavar="S", help="seconds /sleep takes")
    add("--wake-time", type=_amount, default=0.0, metavar="S", help="seconds /wake_up takes")
    add("--memory", type=_count, default=0, metavar="MB", help="memory to hold while awake")


def _add_lifetime_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("faults of the process")
    add = group.add_argument
    add("--exit-at-start", type=_count, metavar="CODE", help="exit before listening")
    add("--exit-after-requests", type=_count, default=0, metavar="N", help="inference requests")
    add("--exit-after", type=_amount, default=0.0, metavar="S", help="exit after so many seconds")
    add("--exit-code", type=_count, default=1, metavar="CODE", help="of the exits below and above")
    add("--ignore-sigterm", action="store_true", help="only SIGKILL or SIGINT ends it")
    add("--fork-grandchild", action="store_true", help="leave a child that holds its stdout")
    add(
        "--grandchild-new-session",
        action="store_true",
        help="as --fork-grandchild, and outside the process group",
    )
    add("--flood", type=_count, default=0, metavar="BYTES_PER_SECOND", help="noise on stdout")


def _add_request_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("faults of requests")
    add = group.add_argument
    add("--hang", action="store_true", help="accept inference requests and never answer")
    add("--never-healthy", action="store_true", help="/health answers 503 for ever")
    add(
        "--break-stream-after",
        type=_count,
        default=0,
        metavar="N",
        help="drop the connection after N chunks of a stream",
    )
    add("--fail-sleep", action="store_true", help="/sleep answers 500")
    add("--fail-wake", action="store_true", help="/wake_up answers 500")
    add("--hang-sleep", action="store_true", help="/sleep never answers")
    add("--die-on-sleep", action="store_true", help="exit when asked to sleep")
    add("--die-on-wake", action="store_true", help="exit when asked to wake")
    add(
        "--corrupt-after-wake",
        action="store_true",
        help="answer garbage after a wake until the weights are reloaded",
    )
