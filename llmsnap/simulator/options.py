"""The command line of the simulator, parsed into one frozen value."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llmsnap.simulator.devices import sizes

# Options that can be changed at run time: those that are read for each request.
CHANGEABLE = (
    "respond",
    "echo_requests",
    "timings",
    "prompt_time",
    "tokens_per_second",
    "tokens",
    "sleep_time",
    "wake_time",
    "hang",
    "fail",
    "break_stream_after",
    "fail_sleep",
    "fail_wake",
    "hang_sleep",
    "die_on_sleep",
    "die_on_wake",
    "corrupt_after_wake",
    "recase_after_wake",
    "vary",
    "slot_fault",
    "slot_time",
)
SLOT_FAULTS = ("none", "error", "hang", "torn", "lost", "noop")


@dataclass(frozen=True, slots=True)
class SimOptions:
    """The options of the command line; by default a fast server without faults."""

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
    read_model: bool = False
    load_mode: str = "closed"
    prompt_time: float = 0.0
    tokens_per_second: float = 0.0
    tokens: int = 0
    sleep_time: float = 0.0
    wake_time: float = 0.0
    memory: int = 0
    device_memory: Mapping[str, int] = field(default_factory=dict)
    asleep_memory: Mapping[str, int] = field(default_factory=dict)

    exit_at_start: int | None = None
    exit_after_requests: int = 0
    exit_after: float = 0.0
    exit_code: int = 1
    hang: bool = False
    fail: bool = False
    never_healthy: bool = False
    ignore_sigterm: bool = False
    fork_grandchild: bool = False
    grandchild_new_session: bool = False
    keep_memory: float = 0.0
    flood: int = 0
    break_stream_after: int = 0
    fail_sleep: bool = False
    fail_wake: bool = False
    hang_sleep: bool = False
    die_on_sleep: bool = False
    die_on_wake: bool = False
    corrupt_after_wake: bool = False
    recase_after_wake: bool = False
    vary: bool = False

    slots: int = 1
    slot_save_path: str = ""
    slot_fault: str = ""
    slot_time: float = 0.0
    prompt_tokens_per_second: float = 0.0


# Options shown by --help; --help-all shows the others too.
COMMON = frozenset(
    {
        "--help",
        "--help-all",
        "--host",
        "--port",
        "--model",
        "--respond",
        "--timings",
        "--load-time",
        "--prompt-time",
        "--tokens-per-second",
        "--tokens",
        "--sleep-time",
        "--wake-time",
    }
)


def parse(argv: list[str] | None = None) -> SimOptions:
    """Return the options in *argv*; an unknown or malformed one exits with status 2."""
    return SimOptions(**vars(build_parser(full=False).parse_args(argv)))


def build_parser(*, full: bool = True) -> argparse.ArgumentParser:
    """Return the parser; its help fits on one screen unless *full*."""
    parser = argparse.ArgumentParser(
        prog="llmsnap sim",
        usage="llmsnap sim [option ...]",
        description="An inference server without a model.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # SimOptions alone has the defaults
    )
    parser.add_argument("--help-all", action=_HelpAll, nargs=0, help="all options, faults too")
    _add_server(parser)
    _add_speed(parser)
    _add_process_faults(parser)
    _add_request_faults(parser)
    _add_slots(parser)
    if not full:
        for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
            if COMMON.isdisjoint(action.option_strings):
                action.help = argparse.SUPPRESS
    return parser


class _HelpAll(argparse.Action):
    """Shows every option."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        build_parser().print_help()
        parser.exit()


def _up_to(limit: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = int(text)
        if not 0 <= value <= limit:
            raise argparse.ArgumentTypeError(f"{text} is not between 0 and {limit}")
        return value

    return whole


_count = _up_to(1 << 31)
_port = _up_to(65535)
_code = _up_to(255)


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def _sizes(text: str) -> dict[str, int]:
    try:
        return sizes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Memory(argparse.Action):
    """Takes MB of RAM, or sizes by pretend device."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Note what the value says."""
        del parser, option_string
        text = str(values)
        try:
            if "=" in text:
                namespace.device_memory = _sizes(text)
            else:
                namespace.memory = _count(text)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentError(self, str(error)) from None


def _add_server(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("server").add_argument
    add("--host", help="address to listen on (127.0.0.1)")
    add("--port", type=_port, metavar="N", help="port, 0 for any that is free (8080)")
    add("--model", metavar="NAME", help="the model it claims to serve (simulated)")
    add("--strict-model", action="store_true", help="answer 404 to any other model name")
    add("--n-ctx", type=_count, metavar="N", help="context size in /props (4096)")
    add("--dimensions", type=_count, metavar="N", help="length of embeddings (64)")
    add("--respond", metavar="TEXT", help="answer every prompt with this text")
    add("--silent", action="store_true", help="no line per request")
    add("--echo-requests", action="store_true", help="show the request in each JSON answer")
    add("--timings", action="store_true", help="llama-server's timings in each answer")


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("speed and size").add_argument
    add("--load-time", type=_amount, metavar="S", help="seconds until it serves")
    add("--read-model", action="store_true", help="read the file that --model names, as it loads")
    add(
        "--load-mode",
        choices=("closed", "503"),
        help="while loading: the port is closed (default), or /health and inference answer 503",
    )
    add("--prompt-time", type=_amount, metavar="S", help="seconds before the first token")
    add("--tokens-per-second", type=_amount, metavar="N", help="0, the default, is unlimited")
    add(
        "--tokens",
        type=_count,
        metavar="N",
        help="length of an answer; 0, the default: as it comes",
    )
    add("--sleep-time", type=_amount, metavar="S", help="seconds /sleep takes")
    add("--wake-time", type=_amount, metavar="S", help="seconds /wake_up takes")
    add(
        "--memory",
        action=_Memory,
        metavar="MB|DEVICE=SIZE,...",
        help="memory to hold while loaded and awake: MB of RAM, or gpu0=18GiB of a pretend "
        "device, see the module llmsnap.simulator.devices",
    )
    add(
        "--asleep-memory",
        type=_sizes,
        metavar="DEVICE=SIZE,...",
        help="what it holds of pretend devices while asleep",
    )


def _add_process_faults(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("faults of the process").add_argument
    add("--exit-at-start", type=_code, metavar="CODE", help="exit before listening")
    add("--exit-after-requests", type=_count, metavar="N", help="exit after N inference requests")
    add("--exit-after", type=_amount, metavar="S", help="exit S seconds after the start")
    add("--exit-code", type=_code, metavar="CODE", help="of every exit but --exit-at-start (1)")
    add("--ignore-sigterm", action="store_true", help="only SIGKILL or SIGINT ends it")
    add("--fork-grandchild", action="store_true", help="leave a child that holds its stdout")
    add(
        "--grandchild-new-session",
        action="store_true",
        help="as --fork-grandchild, and outside the process group",
    )
    add(
        "--keep-memory",
        type=_amount,
        metavar="S",
        help="leave what it holds of pretend devices to a process that outlives it by S seconds",
    )
    add("--flood", type=_count, metavar="BYTES_PER_SECOND", help="write noise to stdout")


def _add_request_faults(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("faults of requests").add_argument
    add("--hang", action="store_true", help="accept inference requests and never answer")
    add("--fail", action="store_true", help="answer every inference request with 500")
    add("--never-healthy", action="store_true", help="/health always answers 503")
    add("--break-stream-after", type=_count, metavar="N", help="drop streams after N chunks")
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
    add(
        "--recase-after-wake",
        action="store_true",
        help="answer in capitals and with wide blanks after a wake",
    )
    add("--vary", action="store_true", help="answer in other words each time")


def _add_slots(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("slots, as llama-server has them").add_argument
    add("--slots", type=_up_to(64), metavar="N", help="how many prompts it keeps (1)")
    add("--slot-save-path", metavar="DIR", help="where /slots saves prompts")
    add("--slot-time", type=_amount, metavar="S", help="seconds a save or restore takes")
    add(
        "--slot-fault",
        choices=SLOT_FAULTS,
        help="no /slots at all; saves and restores fail or hang; saves write half of the file, or "
        "nothing, restores do nothing, and both answer 200",
    )
    add(
        "--prompt-tokens-per-second",
        type=_amount,
        metavar="N",
        help="speed of reading a prompt that is not kept; 0, the default, is unlimited",
    )
