"""HTTP client of the commands: the server's address and key, requests, and errors.

Proxies of the environment and .netrc are ignored: the key is sent only to the named server.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from llmsnap.errors import CommandFailed, KeyRefused, LlmsnapError, NoServer, NoSuchModel, WrongUse
from llmsnap.options import API_KEY

DEFAULT_URL = "http://127.0.0.1:8080"
URL, CA_FILE = "LLMSNAP_URL", "LLMSNAP_CA_FILE"
KEY, KEY_FILE = API_KEY, "LLMSNAP_KEY_FILE"
EPILOG = (
    f"Environment: {URL}, {CA_FILE}, and for the key {KEY} or {KEY_FILE}. A key is never an "
    "argument: those are seen by every user of the machine."
)


def new_parser(name: str, about: str, takes: str = "") -> argparse.ArgumentParser:
    """Return the parser of command *name*, with *takes* as its arguments in the usage line."""
    return argparse.ArgumentParser(
        prog=f"llmsnap {name}",
        usage=f"llmsnap {name} [option ...] {takes}".rstrip(),
        description=about,
        epilog=EPILOG,
        allow_abbrev=False,  # --key must not abbreviate --key-file
    )


def add_server(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options shared by all commands that call a server; return *parser*."""
    add = parser.add_argument_group("the server").add_argument
    add("--url", help=f"its address ({DEFAULT_URL})")
    add("--key-file", metavar="FILE", help="file that holds the API key")
    add("--ca-file", metavar="FILE", help="certificates to trust, PEM")
    return parser


def connect(args: argparse.Namespace, environ: Mapping[str, str]) -> ServerClient:
    """Return a client of the server named in *args*, else in *environ*. Raises: WrongUse.

    An address as SDKs take it, which ends in ``/v1``, is accepted.
    """
    url = args.url or environ.get(URL) or DEFAULT_URL
    _check(url)
    ca_file = args.ca_file or environ.get(CA_FILE) or ""
    if ca_file and not Path(ca_file).is_file():
        raise WrongUse(f"no such file: {ca_file} (--ca-file)")
    url = url.rstrip("/").removesuffix("/v1")
    return ServerClient(url.rstrip("/"), _key(args.key_file, environ), ca_file)


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise WrongUse(f"--url must be like {DEFAULT_URL}, not {url.rpartition('@')[2]!r}")
    if parts.username is not None:
        raise WrongUse(f"a key does not belong into the URL: use {KEY} or --key-file")


def _key(file: str | None, environ: Mapping[str, str]) -> str:
    """Return the key from --key-file, the variable, or the variable's file, in order; or ""."""
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


Answer = requests.Response

CONNECT_LIMIT_S = 5.0
READ_LIMIT_S = 30.0


class ServerClient:
    """Sends requests to one server. Methods block, and raise CommandFailed."""

    def __init__(self, url: str, key: str = "", ca_file: str = "") -> None:
        self.url = url
        self._has_key = bool(key)
        self._headers = {"Accept": "application/json, */*;q=0.1"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._verify: bool | str = ca_file or True

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"

    def get(self, path: str) -> Any:
        """Return the JSON document at *path*."""
        with self.send("GET", path, limit_s=READ_LIMIT_S) as answer:
            try:
                return answer.json()
            except ValueError as error:
                raise NoServer(f"what answers at {self.url} is not llmsnap") from error

    def act(self, verb: str, model: str, query: str = "") -> None:
        """Load, sleep or unload *model*. Blocks until done. Raises: NoSuchModel."""
        try:
            with self.send("POST", f"/api/models/{verb}/{quote(model, safe='')}{query}"):
                pass
        except NoSuchModel as error:
            raise self.unknown(model) from error

    def unknown(self, model: str) -> LlmsnapError:
        """Return the error for a name that no local model of the server has."""
        try:
            self.get(f"/v1/models/{quote(model, safe='')}")
        except CommandFailed as error:
            return error
        return NoSuchModel(f"{model} is a model of another server: {self.url} only passes it on")

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        limit_s: float | None = None,
    ) -> Iterator[Answer]:
        """Yield a successful response with unread body; *limit_s* limits each read. Blocks."""
        with self._mapped(), requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                self.url + path,
                json=document,
                headers=self._headers,
                stream=True,
                timeout=(CONNECT_LIMIT_S, limit_s),
                verify=self._verify,
                allow_redirects=False,
            )
            with closing(answer):  # a session does not close connections with unread responses
                if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    raise self._refusal(answer)
                yield answer

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.SSLError as error:
            if not any(isinstance(each, SSLCertVerificationError) for each in _causes(error)):
                what = f"what answers at {self.url} speaks no TLS that can be used"
                raise NoServer(f"{what} ({_reason(error)}); try http://") from error
            raise NoServer(
                f"{self.url} has a certificate that is not trusted; name its issuer's by --ca-file"
            ) from error
        except requests.ConnectionError as error:
            raise NoServer(
                f"no server at {self.url} ({_reason(error)}); start one with "
                "llmsnap --config FILE, or say where it is with --url or LLMSNAP_URL"
            ) from error
        except requests.Timeout as error:
            raise NoServer(f"{self.url} does not answer") from error
        except requests.RequestException as error:
            raise CommandFailed(
                f"{self.url}: the answer is incomplete ({_reason(error)})"
            ) from error

    def _refusal(self, answer: Answer) -> CommandFailed:
        """Return the error that a failure response stands for."""
        told = _message(answer)
        match answer.status_code:
            case HTTPStatus.UNAUTHORIZED:
                return KeyRefused(f"{self.url} {self._missing_key()}")
            case HTTPStatus.FORBIDDEN if told:
                return KeyRefused(told)
            case HTTPStatus.NOT_FOUND if told:
                return NoSuchModel(told)
            case _ if told:
                return CommandFailed(told)
            case status:
                return NoServer(f"what answers at {self.url} is not llmsnap: it says {status}")

    def _missing_key(self) -> str:
        if self._has_key:
            return "does not know this API key"
        return "asks for an API key: set LLMSNAP_API_KEY, or name a file with --key-file"


def _message(answer: Answer) -> str:
    """Return the message of an error response; empty if it is not in llmsnap's format."""
    try:
        return str(json.loads(answer.text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, its cause, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _reason(error: BaseException) -> str:
    """Return the innermost cause, without urllib3's object addresses."""
    *_, cause = _causes(error)
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
