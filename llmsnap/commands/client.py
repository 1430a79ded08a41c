"""Asks a running server over HTTP, and says in our words what went wrong.

Nothing goes through a proxy of the environment, and no password file is read: the key goes to the
server that was named and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import requests

from llmsnap.errors import CommandFailed, KeyRefused, LlmsnapError, NoServer, NoSuchModel

Answer = requests.Response

CONNECT_LIMIT_S = 5.0
READ_LIMIT_S = 30.0


class Client:
    """Requests to one server. Methods block, and raise the errors of a command."""

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
        """Load, sleep or unload *model*; returns when that is done. Raises: NoSuchModel."""
        try:
            with self.send("POST", f"/api/models/{verb}/{quote(model, safe='')}{query}"):
                pass
        except NoSuchModel as error:
            raise self.unknown(model) from error

    def unknown(self, model: str) -> LlmsnapError:
        """Return what to say of a name that no model of the server's own has."""
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
        """Yield a good answer, its body still to be read; *limit_s* is for each read of it."""
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
            with closing(answer):  # a session forgets connections whose answer was not read
                if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    raise self._refusal(answer)
                yield answer

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.SSLError as error:
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
            raise CommandFailed(f"{self.url}: the answer broke off ({_reason(error)})") from error

    def _refusal(self, answer: Answer) -> CommandFailed:
        """Return what an answer that is no good means."""
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
    """Return what the server says of an error; empty where it says that in no form of ours."""
    try:
        return str(json.loads(answer.text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _reason(error: BaseException) -> str:
    """Return the innermost cause, without urllib3's object addresses."""
    cause = error
    while found := cause.__cause__ or cause.__context__:
        cause = found
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
