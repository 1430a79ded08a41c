"""The command line: runs the server (the default) or one of the subcommands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields

from llmsnap.ansi import strip_controls
from llmsnap.commands.catalog import COMMANDS
from llmsnap.errors import BadRequest, CommandFailed, ConfigError, StateInUse
from llmsnap.installation import identify, unsupported_reason
from llmsnap.options import LOG_FORMATS, Options, from_environ, parse
from llmsnap.suggestions import nearest, shown

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit codes of shells for a program ended by SIGINT or SIGPIPE."""
SPELLINGS = {"--tls-cert": "--tls-cert-file", "--tls-key": "--tls-key-file"}
"""Alternative option names from the documentation of the Go programs."""
EPILOG = """\
commands (each has --help):
  check, doctor, cache, sim, completion, version
  of a running server: ps, load, sleep, unload, profile, plan, why, logs, bench
Every option has a twin in the environment: LLMSNAP_CONFIG, LLMSNAP_LISTEN, ...\
"""


def main(argv: Sequence[str]) -> int:
    """Run ``llmsnap *argv*``; return the exit code, see docs/cli.md."""
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # as in ``llmsnap logs | head``
        _forget_stdout()
        return BROKEN_PIPE


def _main(argv: Sequence[str]) -> int:
    if reason := unsupported_reason():
        sys.stderr.write(reason + "\n")
        return 1
    if argv and argv[0] in COMMANDS:
        return _command(argv[0], list(argv[1:]))
    parser = build_parser()
    if argv and not argv[0].startswith("-"):
        parser.error(_no_command(argv[0]))
    known = parser.parse_args(normalize(argv))
    if known.version:
        return _command("version", [])
    try:
        own = {field.name for field in fields(Options)}
        given = {name: value for name, value in vars(known).items() if name in own}
        options = Options(**{**from_environ(os.environ), **given})
    except BadRequest as error:
        parser.error(str(error))
    return _validate(options) if getattr(known, "validate", False) else _run(options)


def _no_command(word: str) -> str:
    """Return the error for a first word that is no command, with what may have been meant."""
    if os.path.isfile(word):  # noqa: PTH113 - --help need not load pathlib
        return f"{word} is no command; to serve this configuration: llmsnap --config {word}"
    found = nearest(word, COMMANDS)
    hint = f"did you mean {found[0]}?" if found else f"there are {', '.join(COMMANDS)}"
    return f"there is no command {shown(word)!r}; {hint}"


def _validate(options: Options) -> int:
    from llmsnap.commands.check import validate  # noqa: PLC0415 - the server needs none of it
    from llmsnap.config import Sources  # noqa: PLC0415

    return validate(Sources(*options.config_paths))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the server's options."""
    parser = argparse.ArgumentParser(
        prog="llmsnap",
        usage="llmsnap [option ...], or llmsnap COMMAND [argument ...]",
        formatter_class=_Help,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description="One address in front of many local inference servers.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="configuration file (config.yaml)")
    add("--config-dir", metavar="DIR", help="read its *.yml and *.yaml files as one, after FILE")
    add("--validate", action=_Flag, help=argparse.SUPPRESS)  # as `llmsnap check`, see docs/cli.md
    add("--listen", metavar="ADDR", help="host:port, :port or unix:/path (:8080, TLS: :8443)")
    add("--tls-cert-file", metavar="FILE", help="certificate chain, PEM")
    add("--tls-key-file", metavar="FILE", help="its key, PEM")
    add("--watch-config", action=_Flag, help="reload when the configuration file changes")
    add("--drain-timeout", metavar="S", type=float, help="seconds to finish requests (10)")
    add("--state-dir", metavar="DIR", help="directory that records child processes")
    add("--record-decisions", metavar="FILE", help="record the scheduler's decisions for replay")
    add("--log-format", choices=LOG_FORMATS, help="format of the server's own log (text)")
    add("--debug", action=_Flag, help="log everything, restart when code changes, watch the loop")
    add("--version", action="store_true", default=False, help="print the version and exit")
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Widens the option column, so that the help fits on one screen."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


class _Flag(argparse.Action):
    """A boolean option as in Go's flag package: ``--x``, ``--x=true``, ``--x=false``."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(nargs="?", const="true", metavar="BOOL", **kwargs)  # type: ignore[arg-type]

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Store the value, or exit with a usage error."""
        try:
            setattr(namespace, self.dest, parse(option_string or self.dest, bool, str(values)))
        except BadRequest as error:
            parser.error(str(error))


def normalize(argv: Sequence[str]) -> list[str]:
    """Rewrite Go-style arguments: ``-config x`` and ``-config=x`` mean ``--config``.

    A flag never consumes the next word as its value, unlike in argparse.
    """
    flags = {
        "--" + field.name.replace("_", "-") for field in fields(Options) if field.type == "bool"
    }
    flags.add("--validate")
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


def version_parser() -> argparse.ArgumentParser:
    """Return the parser of ``llmsnap version``."""
    about = "Print version and commit, as llmsnap --version does."
    parser = argparse.ArgumentParser(prog="llmsnap version", description=about)
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def version(argv: Sequence[str]) -> int:
    """Run ``llmsnap version``; return the exit code."""
    args = version_parser().parse_args(argv)
    build = identify()
    sys.stdout.write((json.dumps(asdict(build)) if args.json else str(build)) + "\n")
    return 0


def _run(options: Options) -> int:
    # Imported lazily, so that --version and usage errors need not load Flask.
    from llmsnap.config import Sources, advice_on, load_with_advice  # noqa: PLC0415
    from llmsnap.event_loop import watch_loop  # noqa: PLC0415
    from llmsnap.limits import protect_memory, raise_open_files  # noqa: PLC0415
    from llmsnap.logs import LogStyle  # noqa: PLC0415
    from llmsnap.server import serve  # noqa: PLC0415
    from llmsnap.service import Service  # noqa: PLC0415
    from llmsnap.statedir import find as find_state_dir  # noqa: PLC0415
    from llmsnap.web import create_app  # noqa: PLC0415

    if bool(options.tls_cert_file) != bool(options.tls_key_file):
        _say("--tls-cert-file and --tls-key-file belong together: give both or none")
        return 1
    try:
        loaded = load_with_advice(Sources(*options.config_paths))
    except ConfigError as error:
        _say(_problems(error))
        return 1
    if options.debug:
        watch_loop()
    raise_open_files()
    protect_memory(debug=options.debug)
    state = find_state_dir(options.config_paths, options.state_dir)
    service = Service(
        loaded.config,
        listen_host=options.listen.rpartition(":")[0],
        state=state,
        record=options.record_decisions,
        log_style=LogStyle(options.log_format == "json", options.debug),
        advice=advice_on(loaded),
    )
    try:
        pages_port = service.runtime.pages.port
        application = create_app(lambda: service).wsgi_app
        return serve(options, service, application, _announce, pages_port=pages_port)
    except (OSError, ValueError, StateInUse) as error:
        _say(f"cannot serve: {_reason(error)}")
        return 1


def _problems(error: ConfigError) -> str:
    """Return a heading and one line for each problem of a configuration, with its place."""
    problems = [f"{problem.place(error.source)}: {problem}" for problem in error.problems]
    return "\n".join(["Error loading config", *problems])


def _reason(error: Exception) -> str:
    """Return the message of *error*, for an OSError without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _command(name: str, argv: list[str]) -> int:
    """Run one command, loading only the modules it needs."""
    _, run = COMMANDS[name].load()
    if COMMANDS[name].waits:
        _hush_interrupts()
    try:
        code = run(argv)
    except CommandFailed as error:
        sys.stderr.write(f"llmsnap {name}: {strip_controls(str(error))}\n")
        return error.exit_code
    except ConfigError as error:
        sys.stderr.write(_problems(error) + "\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _hush_interrupts() -> None:
    """Prevent the event loop from printing a stack trace on Ctrl-C."""
    from gevent import get_hub  # noqa: PLC0415 - light commands do without

    hub = get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)


def _announce(line: str) -> None:
    """Write a line to stdout; ignore errors, since the server runs even if nothing reads it."""
    try:
        _say(line)
    except BrokenPipeError:
        _forget_stdout()


def _forget_stdout() -> None:
    """Redirect stdout to /dev/null, so that the flush at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
