"""The command line: run the server (the default), or one of the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from llmsnap.errors import BadRequest, ConfigError, StateInUse
from llmsnap.options import LOG_FORMATS, Options, from_environ, parse

COMMANDS = ("check", "sim", "version")
SPELLINGS = {"--tls-cert": "--tls-cert-file", "--tls-key": "--tls-key-file"}
"""Other names that documents of the original use."""


def main(argv: Sequence[str]) -> int:
    """Run ``llmsnap *argv*``; return the exit code: 0 done, 1 failed, 2 wrong use."""
    if argv and argv[0] in COMMANDS:
        return _command(argv[0], list(argv[1:]))
    parser = build_parser()
    known = parser.parse_args(normalize(argv))
    if known.version:
        return _version()
    try:
        given = {name: value for name, value in vars(known).items() if name != "version"}
        options = Options(**{**from_environ(os.environ), **given})
    except BadRequest as error:
        parser.error(str(error))
    return _run(options)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the server's options."""
    parser = argparse.ArgumentParser(
        prog="llmsnap",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description="One address in front of many local inference servers.",
        epilog=f"commands: {', '.join(COMMANDS)} (llmsnap COMMAND --help). "
        "Every option has a twin in the environment: LLMSNAP_CONFIG, LLMSNAP_LISTEN, ...",
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="configuration file (config.yaml)")
    add("--listen", metavar="ADDR", help="host:port, :port or unix:/path (:8080, TLS: :8443)")
    add("--tls-cert-file", metavar="FILE", help="certificate chain, PEM")
    add("--tls-key-file", metavar="FILE", help="its key, PEM")
    add("--watch-config", action=_Flag, help="reload when the configuration file changes")
    add("--drain-timeout", metavar="S", type=float, help="seconds for requests at shutdown (10)")
    add("--state-dir", metavar="DIR", help="where child processes are remembered")
    add("--record-decisions", metavar="FILE", help="write the scheduler's decisions, to replay")
    add("--log-format", choices=LOG_FORMATS, help="how the server's own log is written (text)")
    add("--debug", action=_Flag, help="log everything, and watch for a blocked event loop")
    add("--version", action="store_true", default=False, help="print the version and exit")
    return parser


class _Flag(argparse.Action):
    """A boolean as Go's flag package reads it: ``--x``, ``--x=true``, ``--x=false``."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(nargs="?", const="true", **kwargs)  # type: ignore[arg-type]

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Store the value, or end with a usage error."""
        try:
            setattr(namespace, self.dest, parse(option_string or self.dest, bool, str(values)))
        except BadRequest as error:
            parser.error(str(error))


def normalize(argv: Sequence[str]) -> list[str]:
    """Rewrite Go-style arguments: ``-config x`` and ``-config=x`` mean ``--config``.

    A flag never takes the next word as its value, which argparse would try.
    """
    flags = {
        "--" + field.name.replace("_", "-") for field in fields(Options) if field.type == "bool"
    }
    out = []
    for word in argv:
        name, equals, value = word.partition("=")
        if name.startswith("-") and not name.startswith("--") and len(name) > 2:
            name = "-" + name
        name = SPELLINGS.get(name, name)
        if name in flags and not equals:
            equals, value = "=", "true"
        out.append(name + equals + value)
    return out


def _run(options: Options) -> int:
    # Imported when they are needed: a version or a usage error should not wait for Flask.
    from llmsnap.blocked import watch_loop  # noqa: PLC0415
    from llmsnap.config.loader import load  # noqa: PLC0415
    from llmsnap.limits import raise_open_files  # noqa: PLC0415
    from llmsnap.logs.handler import LogStyle  # noqa: PLC0415
    from llmsnap.server import serve  # noqa: PLC0415
    from llmsnap.service import Service  # noqa: PLC0415
    from llmsnap.statedir import find as find_state_dir  # noqa: PLC0415
    from llmsnap.web.app import create_app  # noqa: PLC0415

    if bool(options.tls_cert_file) != bool(options.tls_key_file):
        _say("--tls-cert-file and --tls-key-file belong together: give both or none")
        return 1
    try:
        config = load(options.config)
    except ConfigError as error:
        _say("Error loading config")
        for problem in error.problems:
            _say(f"{options.config}:{problem.line}:{problem.column}: {problem}")
        return 1
    if options.debug:
        watch_loop()
    raise_open_files()
    state = find_state_dir(options.config, options.state_dir)
    service = Service(
        config,
        listen_host=options.listen.rpartition(":")[0],
        state=state,
        record=options.record_decisions,
        log_style=LogStyle(options.log_format == "json", options.debug),
    )
    app = create_app(lambda: service)
    try:
        return serve(options, service, app, _say)
    except (OSError, ValueError, StateInUse) as error:
        _say(f"cannot serve: {error}")
        return 1


def _command(name: str, argv: list[str]) -> int:
    match name:
        case "version":
            return _version()
        case "sim":
            from llmsnap.simulator.cli import main as simulate  # noqa: PLC0415

            return int(simulate(argv))
        case _:
            from llmsnap.commands import check  # noqa: PLC0415

            return check.main(argv)


def _version() -> int:
    from llmsnap.build import identify  # noqa: PLC0415

    _say(str(identify()))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
