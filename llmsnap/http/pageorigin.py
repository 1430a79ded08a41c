"""The origin in which pages of models' own servers are shown.

In the interface's own origin such a page could send requests in the name of whoever opened the
interface. With ``uiOrigin: separate`` it is shown under another host name or port instead, where
nothing but ``/upstream/<model>/`` is served.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from llmsnap.http.hosts import host_name, is_loopback

PAGES = "llmsnap.pages"
"""In an environ of our own server: the request came to the port for pages."""

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
DEFAULT_PORTS = {"http": "80", "https": "443"}
SUFFIX = ".localhost"
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
UNFIT = re.compile(r"[^a-z0-9]+")
SLUG_LENGTH = 40


class PageOrigin:
    """What the configuration says of it.

    *address* is ``:8081``, ``https://pages.example``, or "" for ``<model>.localhost``.
    """

    def __init__(self, *, separate: bool, address: str, model_ids: Iterable[str]) -> None:
        self.separate = separate
        self._address = "" if address.startswith(":") else address
        self._port = address.removeprefix(":") if address.startswith(":") else ""
        self.port = int(self._port) if separate and self._port else 0
        """The port for pages, which our own server listens on; 0: none."""
        page = urlsplit(self._address)
        self.host = page.hostname or ""
        self._named_port = str(page.port or DEFAULT_PORTS.get(page.scheme, ""))
        self._labels = {label_of(model_id): model_id for model_id in model_ids} if separate else {}

    def __repr__(self) -> str:
        place = self._address or self._port or f"<model>{SUFFIX}"
        return f"<PageOrigin {place if self.separate else 'of the interface'}>"

    def is_here(self, environ: Mapping[str, object]) -> bool:
        """Whether a request was sent to the origin for pages."""
        if not self.separate:
            return False
        host = str(environ.get("HTTP_HOST", ""))
        name, port = host_name(host), _port_of(host, str(environ.get("wsgi.url_scheme", "http")))
        if PAGES in environ or (self._port and port == self._port):
            return True
        return name.endswith(SUFFIX) or (name == self.host != "" and port == self._named_port)

    def model_of(self, host: str) -> str:
        """The id of the only model served under *host*, a Host header; "" where all are."""
        name = host_name(host)
        return self._labels.get(name.removesuffix(SUFFIX), "?") if name.endswith(SUFFIX) else ""

    def url_of(self, model_id: str, environ: Mapping[str, object]) -> str:
        """The origin to show pages of *model_id* in; "" if a browser that came here has none."""
        host, scheme = str(environ.get("HTTP_HOST", "")), str(environ.get("wsgi.url_scheme"))
        name, port = host_name(host), _port_of(host, scheme)
        if self._address or not name:
            return self._address
        if self._port:
            return f"{scheme}://{f'[{name}]' if ':' in name else name}:{self._port}"
        if scheme == "http" and sees_loopback(environ):  # a certificate would name other hosts
            return f"http://{label_of(model_id)}{SUFFIX}:{port}"
        return ""


def label_of(model_id: str) -> str:
    """The part of a host name that stands for a model: its id, made fit and unique if need be."""
    if LABEL.fullmatch(model_id):
        return model_id
    slug = UNFIT.sub("-", model_id.lower())[:SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest


def sees_loopback(environ: Mapping[str, object]) -> bool:
    """Whether the browser that sent a request talks to its own machine, as far as it shows."""
    if any(name in environ for name in FORWARDED):
        return False
    return is_loopback(str(environ.get("HTTP_HOST", "")))


def _port_of(host: str, scheme: str) -> str:
    """The port in a Host header, or that of *scheme*."""
    _, colon, port = host.rpartition(":")
    return port if colon and port.isdigit() else DEFAULT_PORTS.get(scheme, "")
