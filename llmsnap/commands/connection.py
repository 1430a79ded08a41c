"""How a command is told which running server to talk to, and with which key."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from llmsnap.commands.client import Client
from llmsnap.errors import WrongUse
from llmsnap.options import API_KEY

DEFAULT_URL = "http://127.0.0.1:8080"
URL, CA_FILE = "LLMSNAP_URL", "LLMSNAP_CA_FILE"
KEY, KEY_FILE = API_KEY, "LLMSNAP_KEY_FILE"
EPILOG = (
    f"Environment: {URL}, {CA_FILE}, and for the key {KEY} or {KEY_FILE}. A key is never an "
    "argument: those are seen by every user of the machine."
)


def new_parser(name: str, about: str, takes: str = "") -> argparse.ArgumentParser:
    """Return the parser of command *name*, whose arguments are shown as *takes*."""
    return argparse.ArgumentParser(
        prog=f"llmsnap {name}",
        usage=f"llmsnap {name} [option ...] {takes}".rstrip(),
        description=about,
        epilog=EPILOG,
        allow_abbrev=False,  # --key for --key-file would look as if it took a key
    )


def add_server(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what all commands share that talk to a server; return *parser*."""
    add = parser.add_argument_group("the server").add_argument
    add("--url", help=f"its address ({DEFAULT_URL})")
    add("--key-file", metavar="FILE", help="file that holds the API key")
    add("--ca-file", metavar="FILE", help="certificates to trust, PEM")
    return parser


def connect(args: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    """Return a client of the server that *args*, else *environ*, name. Raises: WrongUse."""
    url = args.url or environ.get(URL) or DEFAULT_URL
    _check(url)
    ca_file = args.ca_file or environ.get(CA_FILE) or ""
    if ca_file and not Path(ca_file).is_file():
        raise WrongUse(f"no such file: {ca_file} (--ca-file)")
    return Client(url.rstrip("/"), _key(args.key_file, environ), ca_file)


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise WrongUse(f"--url must be like {DEFAULT_URL}, not {url.rpartition('@')[2]!r}")
    if parts.username is not None:
        raise WrongUse(f"a key does not belong into the URL: use {KEY} or --key-file")


def _key(file: str | None, environ: Mapping[str, str]) -> str:
    """Return the key, "" for none: of the file in the arguments, the variable, its file."""
    if not file and environ.get(KEY):
        return environ[KEY].strip()
    path = file or environ.get(KEY_FILE)
    if not path:
        return ""
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise WrongUse(f"the key file {path} cannot be read: {reason}") from error
    if not key or len(key.split()) != 1:
        raise WrongUse(f"the key file {path} must hold one key and nothing else")
    return key
