"""Control calls to a server: health, sleep, wake.

``localhost`` is never resolved: 127.0.0.1 is tried, then ::1. Proxies of the environment and
password files are ignored (``trust_env`` is off).
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

import gevent

from llmsnap.config import Endpoint, HookCall
from llmsnap.errors import ProcessError, Unreachable, UpstreamError, UpstreamTimeout
from llmsnap.http import masked
from llmsnap.launchers import warm_up
from llmsnap.models.transition import Interrupt

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 0.5
LOOPBACK = ("127.0.0.1", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_BODY_BYTES = 1 << 20
PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Address:
    """The address of an upstream.

    *host* and *port* are as configured, *ip* is the address that answered the health check (the
    host itself until then), *base_path* has no slash at its end. *name* is its name in messages:
    clients know models and peers, not ports.
    """

    scheme: str
    host: str
    port: int
    ip: str
    base_path: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """Headers of every control call, as the configuration gives them, with *key*."""
    key: str = field(default="", repr=False, compare=False)
    """The key that this run of the server asks for; empty: none was made for it."""
    name: str = field(default="", compare=False)

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.name or self.netloc

    @property
    def netloc(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def url(self, path: str) -> str:
        """Resolve *path* (RFC 3986: a leading slash replaces the base path), host as IP.

        https keeps the name, which its certificate is checked against.
        """
        base = f"{self.scheme}://{self.netloc}{self.base_path}/"
        parts = urlsplit(urljoin(base, path))
        if parts.netloc == self.netloc and self.scheme == "http":
            ip = f"[{self.ip}]" if ":" in self.ip else self.ip
            parts = parts._replace(netloc=f"{ip}:{self.port}")
        return urlunsplit(parts)


def parse_address(url: str) -> Address:
    """Return the address in *url*, not resolved. Raises: ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an http or https URL with a host: {url!r}")
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return Address(parts.scheme, parts.hostname, port, parts.hostname, parts.path.rstrip("/"))


def find_listener(address: Address, limit_s: float = CONNECT_LIMIT_S) -> Address | None:
    """Return *address* with the IP that accepts connections, None when none does. Blocks."""
    hosts = LOOPBACK if address.host == "localhost" else (address.host,)
    for host in hosts:
        try:
            with socket.create_connection((host, address.port), timeout=limit_s) as link:
                ip = link.getpeername()[0]
        except OSError:
            continue
        return replace(address, ip=ip)
    return None


@dataclass(frozen=True, slots=True)
class ControlCall:
    """One control request; *body* is sent verbatim, as JSON when it is not empty."""

    method: str
    path: str
    body: str = ""
    limit_s: float = 5.0


def send(address: Address, call: ControlCall) -> tuple[int, bytes]:
    """Make one control call; return status and body, of which at most MAX_BODY_BYTES are read.

    Redirects are not followed: they could lead to any host. Blocks, up to the limit of *call*.
    Raises: UpstreamTimeout, Unreachable.
    """
    warm_up()
    import requests  # noqa: PLC0415 - costs 60 ms, which a program that only starts need not pay

    headers = dict(address.headers)
    headers |= {"Host": address.netloc, "Connection": "close", "Accept-Encoding": "identity"}
    if call.body:
        headers["Content-Type"] = "application/json"
    late = UpstreamTimeout(f"{call.method} {call.path} did not answer within {call.limit_s:g} s")
    try:
        # A session for each call: a connection kept from the last one may just be closing.
        # The time-outs of requests are for each packet, of which a server may send one a second.
        with gevent.Timeout(call.limit_s, late), requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                call.method,
                address.url(call.path),
                data=call.body.encode() or None,
                headers=headers,
                timeout=(min(CONNECT_LIMIT_S, call.limit_s), call.limit_s),
                allow_redirects=False,
                stream=True,
            )
            with answer:
                return answer.status_code, _beginning(answer)
    except requests.Timeout as error:
        raise late from error
    except requests.RequestException as error:
        raise Unreachable(f"{call.method} {call.path} failed: {_reason(error)}") from error


def _beginning(answer: requests.Response) -> bytes:
    """Return the first MAX_BODY_BYTES of a body; nothing of one with a Content-Encoding."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        return b""
    body = b""
    for piece in answer.iter_content(PIECE_BYTES):
        body += piece
        if len(body) >= MAX_BODY_BYTES:
            break
    return body[:MAX_BODY_BYTES]


METRICS = ControlCall("GET", "/metrics", limit_s=1.0)


def metrics_page(address: Address) -> bytes:
    """Return the Prometheus page of the server at *address*; empty without one. Blocks: 1 s."""
    try:
        status, body = send(address, METRICS)
    except UpstreamError as error:
        log.debug("%s has no metrics: %s", address.called, error)
        return b""
    return body if status == 200 else b""


def _reason(error: Exception) -> str:
    """Return the text of the innermost cause, without urllib3's object addresses."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


# --- sleep and wake ------------------------------------------------------------------------------

IS_SLEEPING = ControlCall("GET", "/is_sleeping", limit_s=2.0)  # vLLM, docs "Sleep Mode"


def run_endpoints(
    what: str,
    endpoints: Sequence[Endpoint],
    address: Address,
    interrupt: Interrupt,
    error_class: type[ProcessError],
) -> None:
    """Call each endpoint under its own timeout; any 2xx is success. Blocks.

    Raises: *error_class* naming the step and the cause; what *interrupt* raises.
    """
    for step, endpoint in enumerate(endpoints, 1):
        place = f"{what} step {step} of {len(endpoints)}"
        failure = _failure(what, endpoint, endpoint.timeout_s, address, interrupt)
        if failure:
            raise error_class(f"{place} failed", detail=f": {failure}")


def run_hook(
    what: str,
    calls: Sequence[HookCall],
    address: Address,
    interrupt: Interrupt,
    limit_s: float,
) -> str:
    """Make each call of the hook *what*, all within *limit_s*; log failures. Blocks.

    Returns the failure of a call that fails the load, "" without one: the calls after it are not
    made. Raises: what *interrupt* raises.
    """
    end = time.monotonic() + limit_s
    for step, hook in enumerate(calls, 1):
        left_s = min(hook.call.timeout_s or limit_s, end - time.monotonic())
        failure = f"no time was left of {limit_s:g} s"
        if left_s > 0:
            failure = _failure(what, hook.call, left_s, address, interrupt)
        if failure:
            failure = f"{what} step {step} of {len(calls)} failed: {failure}"
            log.warning("<%s> %s", address.name or address.netloc, failure)
            if hook.fails:
                return failure
    return ""


def _failure(
    what: str, endpoint: Endpoint, limit_s: float, address: Address, interrupt: Interrupt
) -> str:
    """Call *endpoint*; return why it failed, "" for any 2xx. Raises: what *interrupt* raises."""
    call = ControlCall(endpoint.method, endpoint.endpoint, endpoint.body, limit_s)
    try:
        status, _ = interrupt.call(what, lambda: send(address, call))
    except UpstreamError as error:
        return masked(str(error))
    if 200 <= status < 300:
        return ""
    return f"{masked(f'{call.method} {call.path}')} answered {status}"


def is_sleeping(address: Address, interrupt: Interrupt) -> bool | None:
    """Return whether the server reports that it sleeps; None if it reports neither. Blocks."""
    try:
        status, body = interrupt.call("is_sleeping", lambda: send(address, IS_SLEEPING))
        answer = json.loads(body) if 200 <= status < 300 else None
    except (UpstreamError, ValueError) as error:
        log.debug("is_sleeping: %s", error)
        return None
    value = answer.get("is_sleeping") if isinstance(answer, dict) else None
    return value if isinstance(value, bool) else None
