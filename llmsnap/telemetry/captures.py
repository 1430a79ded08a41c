"""Captures: requests and their responses, kept without secrets within a budget of bytes.

A request in flight has a ``CaptureBuffer`` for its bodies. At its end they become a
``RawExchange``, from which a ``Capture`` is made when it is asked for: few ever are.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import shlex
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from itertools import chain
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from llmsnap import __version__
from llmsnap.http import REDACTED, default_capture, is_secret_name
from llmsnap.telemetry.observer import Headers, header

log = logging.getLogger(__name__)

MIB = 1024 * 1024
PACK_FROM_BYTES = 8 * 1024  # below, handing it to a thread costs more than it saves
PACKED_BYTES = 64 * 1024
"""Up to this size one copy costs less than freeing thousands of parts later, one by one, when they
are no longer in the processor's caches.
"""
SCHEMA_VERSION = 1

# --- a capture ------------------------------------------------------------------------------------


class Mask(StrEnum):
    """The parts of a route's requests that are captured."""

    NONE = "none"
    HEADERS = "headers"
    FULL = "full"


class CapturedBody(Struct, frozen=True):
    """A body of *size* bytes; *omitted* says why *data* is empty (too large, masked)."""

    data: bytes = b""
    size: int = 0
    omitted: str = ""
    packed: bool = False

    @classmethod
    def of(cls, data: bytes) -> CapturedBody:
        """Return the body *data*."""
        return cls(data, len(data))

    def content(self) -> bytes:
        """Return the body's bytes."""
        return zlib.decompress(self.data) if self.packed else self.data

    def pack(self) -> CapturedBody:
        """Return the body compressed, if that saves memory."""
        if self.packed or len(self.data) < PACK_FROM_BYTES:
            return self
        packed = zlib.compress(self.data, 1)
        return replace(self, data=packed, packed=True) if len(packed) < len(self.data) else self


class Capture(Struct, frozen=True):
    """One request and its response, without secrets; *id* is that of the activity record."""

    id: int
    req_path: str
    req_headers: dict[str, str] = field(default_factory=dict)
    req_body: CapturedBody = CapturedBody()
    resp_headers: dict[str, str] = field(default_factory=dict)
    resp_body: CapturedBody = CapturedBody()
    method: str = "POST"
    status: int = 0
    started_ms: int = 0
    duration_ms: float = 0.0

    def size(self) -> int:
        """Return the bytes this capture holds: path, headers, bodies."""
        headers = (self.req_headers, self.resp_headers)
        texts = chain(*headers, *(one.values() for one in headers))
        bodies = len(self.req_body.data) + len(self.resp_body.data)
        return len(self.req_path) + sum(map(len, texts)) + bodies

    def pack(self) -> Capture:
        """Return the capture with its bodies compressed."""
        return replace(self, req_body=self.req_body.pack(), resp_body=self.resp_body.pack())


# --- policy ---------------------------------------------------------------------------------------

_json_decoder = json.JSONDecoder()


def redact_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first value of each header; those of secret headers are replaced."""
    shown: dict[str, str] = {}
    for name, value in headers:
        shown.setdefault(name, REDACTED if is_secret_name(name) else value)
    return shown


class Redactor:
    """Replaces the values of configured JSON fields and query parameters (any case)."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names if name)
        self._member: re.Pattern[str] | None = None
        self._quoted: re.Pattern[str] | None = None
        if self._names:
            # A field's own name as it is in JSON, and inside JSON that is itself in a string
            # (arguments of tool calls).
            any_name = "|".join(re.escape(json.dumps(name)[1:-1]) for name in sorted(self._names))
            self._member = re.compile(rf'(?<!\\)"(?:{any_name})"\s*:\s*', re.IGNORECASE)
            self._quoted = re.compile(rf'\\"(?:{any_name})\\"\s*:\s*', re.IGNORECASE)

    @property
    def active(self) -> bool:
        """Whether any field is configured, so that bodies have to be searched."""
        return bool(self._names)

    def path(self, path: str, query: str) -> str:
        """Return path and query; values of secret parameters are replaced."""
        if not query:
            return path
        return f"{path}?{'&'.join(self._parameter(part) for part in query.split('&'))}"

    def body(self, body: bytes) -> bytes:
        """Return a JSON or SSE body; values of the configured fields are replaced.

        Searches the text, so it also works on a body that is truncated or not valid JSON.
        """
        if self._member is None or self._quoted is None or not body:
            return body
        text = body.decode("utf-8", "surrogateescape")
        text = _replaced(text, self._member, f'"{REDACTED}"', _end_of_value)
        text = _replaced(text, self._quoted, f'\\"{REDACTED}\\"', _end_of_quoted_value)
        return text.encode("utf-8", "surrogateescape")

    def _parameter(self, part: str) -> str:
        name, equals, _ = part.partition("=")
        plain = unquote_plus(name)
        secret = is_secret_name(plain) or plain.lower() in self._names
        return f"{name}={REDACTED}" if equals and secret else part


def _replaced(
    text: str, name: re.Pattern[str], value: str, end_of: Callable[[str, int], int]
) -> str:
    """Return *text* with *value* behind each *name*, in place of what lasts until *end_of*."""
    parts, at = [], 0
    for match in name.finditer(text):
        if match.start() < at:
            continue  # inside a value that was already replaced
        parts.append(text[at : match.end()] + value)
        at = end_of(text, match.end())
    return "".join(parts) + text[at:]


def _end_of_value(text: str, start: int) -> int:
    """Return the end of the JSON value at *start*; the end of the text if it is truncated."""
    try:
        end: int = _json_decoder.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return len(text)
    return end


_QUOTED_TOKEN = re.compile(
    # A string: its own quotes have three backslashes, its own backslashes four.
    r'\\"(?:[^"\\]|\\\\\\"|\\\\\\\\|\\\\[^"\\]|\\[^"\\])*\\"'
    r"|[\[{\]}]|[,:]|\\[nrt]|\s+|[^\[\]{},:\\\"\s]+"
)


def _end_of_quoted_value(text: str, start: int) -> int:
    """Return the end of a value of JSON that is itself in a string, whose quotes are escaped.

    A value that is truncated ends where that string does.
    """
    depth, at = 0, start
    while at < len(text) and text[at] != '"':
        token = _QUOTED_TOKEN.match(text, at)
        if token is None:  # a string that is cut
            return len(text)
        found = token[0]
        if not depth and found in ",]}":
            break
        depth += (found in "[{") - (found in "]}")
        at = token.end()
        if not depth and found.strip() and found not in (r"\n", r"\r", r"\t"):
            break
    return at


_TEXT_TYPES = ("application/json", "text/", "application/x-ndjson", "application/x-www-form")


class CapturePolicy:
    """Rules for captures: *masks* (route or glob -> mask) go before those of the route table."""

    def __init__(
        self,
        *,
        max_body: int = MIB,
        redact: Iterable[str] = (),
        masks: Mapping[str, str] | None = None,
    ) -> None:
        self.max_body = max_body
        self.redactor = Redactor(redact)
        self._masks = {route: Mask(mask) for route, mask in (masks or {}).items()}
        self.mask: Callable[[str], Mask] = lru_cache(maxsize=256)(partial(_mask, self._masks))
        """Returns the mask of a path. Not a method: the cache would make a reference cycle."""

    def prepare(self, capture: Capture) -> Capture:
        """Return the capture without the secrets in its bodies."""
        return replace(
            capture,
            req_body=self._redacted(capture.req_body),
            resp_body=self._redacted(capture.resp_body),
        )

    def _redacted(self, body: CapturedBody) -> CapturedBody:
        return replace(body, data=self.redactor.body(body.data)) if body.data else body

    def omitted_reason(self, size: int, headers: Headers, path: str) -> str:
        """Return why a body of *size* bytes with these headers is not kept; "" if it is."""
        if self.mask(path) is not Mask.FULL:
            return "captureMask keeps bodies of this route out"
        if size > self.max_body:
            return "larger than captureMaxBody"
        asked_for = self._masks.get(path) is Mask.FULL
        kind = header(headers, "content-type").strip().lower()
        if kind and not kind.startswith(_TEXT_TYPES) and "+json" not in kind and not asked_for:
            return f"not text ({kind.partition(';')[0][:60]})"
        return ""


def _mask(masks: Mapping[str, Mask], path: str) -> Mask:
    if path in masks:
        return masks[path]
    for route, mask in masks.items():
        if fnmatchcase(path, route):
            return mask
    return Mask(default_capture(path))


# --- bodies of a request in flight ----------------------------------------------------------------


class CaptureBuffer:
    """The bodies of one request in flight and of its response, for their capture.

    *policy* bounds each body, the budget of *captures* all buffers together.
    """

    def __init__(self, captures: Captures, policy: CapturePolicy, path: str) -> None:
        self.request = b""
        self.chunks: list[bytes] = []
        self.omitted_reason = ""
        """Why the body of the response is not kept; "" if it is."""
        self._captures, self._policy, self._path = captures, policy, path
        self._size = self._held = 0

    def keep_request(self, body: bytes) -> None:
        """Keep the request's body, if there is room."""
        if self._hold(len(body)):
            self.request = body

    def wants(self, headers: Headers) -> bool:
        """Return whether the body of a response with these headers is kept at all."""
        self.omitted_reason = self._policy.omitted_reason(0, headers, self._path)
        return not self.omitted_reason

    def keep(self, data: bytes) -> bool:
        """Append *data* of the response; false if the body is not kept, permanently."""
        self._size += len(data)
        if self._size > self._policy.max_body:
            self.omitted_reason = "larger than captureMaxBody"
        elif self._hold(len(data)):
            self.chunks.append(data)
            return True
        else:
            self.omitted_reason = "too much was in flight to keep it"
        self._give_back(sum(map(len, self.chunks)))
        self.chunks = []
        return False

    def release(self) -> None:
        """Drop the bodies."""
        self._give_back(self._held)
        self.request, self.chunks = b"", []

    def _hold(self, size: int) -> bool:
        if self._captures.in_flight_bytes + size > self._captures.budget:
            return False
        self._captures.in_flight_bytes += size
        self._held += size
        return True

    def _give_back(self, size: int) -> None:
        self._captures.in_flight_bytes -= size
        self._held -= size


# --- captures held --------------------------------------------------------------------------------

Make = Callable[[], Capture]
Prepare = Callable[[Capture], Capture]

RunElsewhere = Callable[
    [Callable[[], Capture | None], Callable[[Capture | None], None], Callable[[], bool]], None
]
"""Runs a function in a thread if it is still wanted, and passes the result to a callback."""


def run_here(
    work: Callable[[], Capture | None],
    done: Callable[[Capture | None], None],
    wanted: Callable[[], bool],
) -> None:
    """Do the work at once."""
    if wanted():
        done(work())


class Captures:
    """Captures by id, at most *budget* bytes of them; a budget of 0 or less keeps none.

    *on_evict* is called with the id of each evicted capture. Bodies are compressed by *offload*
    after they were stored; *keep* gets each finished capture. No method switches greenlets.
    """

    def __init__(
        self,
        budget: int = 5 * MIB,
        *,
        on_evict: Callable[[int], None] = lambda _: None,
        offload: RunElsewhere = run_here,
        keep: Callable[[Capture], None] | None = None,
    ) -> None:
        self.budget = budget
        self.used = 0
        self.in_flight_bytes = 0
        """Bodies in the buffers of requests in flight; not part of *used*."""
        self._on_evict = on_evict
        self._offload = offload
        self._keep = keep
        # Of all, oldest first. A plain dict would scan the removed ones for its first item.
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._raw: dict[int, Make] = {}  # those without a finished form
        self._captures: dict[int, Capture] = {}  # finished ones

    def __repr__(self) -> str:
        return f"<Captures {len(self)}, {self.used} of {self.budget} bytes>"

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, capture_id: int) -> bool:
        return capture_id in self._sizes

    @property
    def enabled(self) -> bool:
        """Whether the budget allows any capture."""
        return self.budget > 0

    def add(
        self,
        capture_id: int,
        size: int,
        make: Make,
        prepare: Prepare | None = None,
        largest: int = 0,
    ) -> bool:
        """Keep the capture that *make* returns once it is asked for; false if it does not fit.

        Evicts the oldest as needed; *size* is what counts against the budget. *prepare* runs on it
        in *offload*, at the latest when it is read; bodies are compressed there as well if the
        *largest* is worth it.
        """
        if size > self.budget:
            if self.enabled:
                log.warning("capture %d: %d bytes do not fit captureBuffer", capture_id, size)
            return False
        if self.used + size > self.budget:
            self._evict(self.budget - size)
        self._sizes[capture_id] = size
        self.used += size
        self._raw[capture_id] = make if prepare is None else partial(_prepared, make, prepare)
        if prepare is not None or largest >= PACK_FROM_BYTES or self._keep is not None:
            # By its id: a capture evicted meanwhile must not stay in memory through the queue.
            finish = partial(self._finished, capture_id)
            self._offload(finish, self._replace, partial(self.__contains__, capture_id))
        return True

    def get(self, capture_id: int) -> Capture | None:
        """Return a capture; None when there never was one, or it was evicted."""
        self._replace(self._finished(capture_id))
        return self._captures.get(capture_id)

    def finish(self) -> None:
        """Finish all captures now."""
        for capture_id in list(self._raw):
            self._replace(self._finished(capture_id))

    def resize(self, budget: int) -> None:
        """Keep at most *budget* bytes from now on."""
        self.budget = budget
        self._evict(max(0, budget))

    def _evict(self, room: int) -> None:
        while self.used > room:
            oldest, size = self._sizes.popitem(last=False)
            self.used -= size
            self._raw.pop(oldest, None)
            self._captures.pop(oldest, None)
            self._on_evict(oldest)

    def _finished(self, capture_id: int) -> Capture | None:
        """Return the finished form of a capture that has none yet. Runs in any thread."""
        raw = self._raw.get(capture_id)
        return None if raw is None else raw().pack()

    def _replace(self, capture: Capture | None) -> None:
        """Store the finished form, unless the capture was evicted meanwhile."""
        if capture is not None and self._raw.pop(capture.id, None) is not None:
            self._captures[capture.id] = capture
            held, self._sizes[capture.id] = self._sizes[capture.id], capture.size()
            self.used += self._sizes[capture.id] - held
            if self._keep is not None:
                self._keep(capture)


def _prepared(make: Make, prepare: Prepare) -> Capture:
    return prepare(make())


# --- a request that has ended, before its capture is asked for -----------------------------------


class RawExchange(Struct, array_like=True):
    """A request that has ended, and its response."""

    id: int
    method: str
    path: str
    query: str
    headers: Headers
    body_bytes: int
    request: bytes
    """The request's body, if it was kept."""
    status: int
    response_headers: Headers
    response_bytes: int
    response: bytes
    omitted_reason: str
    """Why the body of the response is missing; "" if it is not."""
    started_ms: int
    duration_ms: float

    def size(self) -> int:
        """Return the approximate bytes of the capture: path, headers, bodies."""
        texts = sum(map(len, chain.from_iterable(chain(self.headers, self.response_headers))))
        return len(self.path) + texts + len(self.request) + len(self.response)

    def kept(self, policy: CapturePolicy) -> tuple[int, Make]:
        """Return (bytes kept, function that makes the capture of them)."""
        if len(self.request) + len(self.response) > PACKED_BYTES:
            return self.size(), partial(self.capture, policy)
        data = _encode(self)
        return len(data), Packed(data, policy)

    def capture(self, policy: CapturePolicy) -> Capture:
        """Return the capture, without secrets in path and headers. Needs no event loop."""
        return Capture(
            id=self.id,
            req_path=policy.redactor.path(self.path, self.query),
            req_headers=redact_headers(self.headers),
            req_body=self._request_body(policy),
            resp_headers=_decoded_headers(self.response_headers),
            resp_body=self._response_body(),
            method=self.method,
            status=self.status,
            started_ms=self.started_ms,
            duration_ms=self.duration_ms,
        )

    def _request_body(self, policy: CapturePolicy) -> CapturedBody:
        if self.request or not self.body_bytes:
            return CapturedBody.of(self.request)
        reason = policy.omitted_reason(self.body_bytes, self.headers, self.path)
        return CapturedBody(size=self.body_bytes, omitted=reason or "not held in memory")

    def _response_body(self) -> CapturedBody:
        if self.omitted_reason:
            return CapturedBody(size=self.response_bytes, omitted=self.omitted_reason)
        return CapturedBody.of(self.response)


class Packed(Struct, gc=False):
    """An encoded RawExchange; the call makes its capture under the *policy* of its time."""

    data: bytes
    policy: CapturePolicy

    def __call__(self) -> Capture:
        """Make the capture."""
        return _decode(self.data).capture(self.policy)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RawExchange).decode


def _decoded_headers(headers: Headers) -> dict[str, str]:
    """Return the response headers that fit the decoded body."""
    shown = redact_headers(headers)
    if not header(headers, "content-encoding"):
        return shown
    gone = {"content-encoding", "content-length"}
    return {name: value for name, value in shown.items() if name.lower() not in gone}


# --- the API's documents --------------------------------------------------------------------------

_NOT_FOR_CURL = frozenset({"host", "content-length", "connection", "accept-encoding"})


def capture_object(capture: Capture) -> dict[str, Any]:
    """Return the capture as ``/api/captures`` shows it, bodies in base64.

    The first six members are those of the original, the others are additions.
    """
    return {
        "id": capture.id,
        "req_path": capture.req_path,
        "req_headers": capture.req_headers,
        "req_body": _base64(capture.req_body),
        "resp_headers": capture.resp_headers,
        "resp_body": _base64(capture.resp_body),
        "method": capture.method,
        "status": capture.status,
        "req_body_omitted": capture.req_body.omitted or None,
        "resp_body_omitted": capture.resp_body.omitted or None,
        "schema_version": SCHEMA_VERSION,
    }


def capture_curl(capture: Capture, base_url: str) -> str:
    """Return a command line that sends the request again to *base_url*.

    Secrets stay ``[REDACTED]``; a comment says which body was not kept.
    """
    words = [f"curl -X {shlex.quote(capture.method)} {shlex.quote(base_url + capture.req_path)}"]
    for name, value in capture.req_headers.items():
        if name.lower() not in _NOT_FOR_CURL:
            words.append(f"-H {shlex.quote(f'{name}: {value}')}")
    body = capture.req_body.content()
    source = ""
    if body and _fits_a_word(body):
        words.append(f"--data-binary {shlex.quote(body.decode())}")
    elif body:
        source = f"echo {_base64(capture.req_body)} | base64 -d | "
        words.append("--data-binary @-")
    command = source + " \\\n  ".join(words) + "\n"
    if capture.req_body.omitted:
        command = f"# The body is missing: {capture.req_body.omitted}\n{command}"
    return command


def capture_har(capture: Capture, base_url: str) -> dict[str, Any]:
    """Return a HAR 1.2 document with this one entry."""
    started = datetime.fromtimestamp(capture.started_ms / 1000, UTC).isoformat()
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "llmsnap", "version": __version__},
            "entries": [
                {
                    "startedDateTime": started,
                    "time": capture.duration_ms,
                    "request": _har_request(capture, base_url),
                    "response": _har_response(capture),
                    "cache": {},
                    "timings": {"send": 0, "wait": capture.duration_ms, "receive": 0},
                }
            ],
        }
    }


def _har_request(capture: Capture, base_url: str) -> dict[str, Any]:
    _, _, query = capture.req_path.partition("?")
    parameters = [part.partition("=") for part in query.split("&") if part]
    request: dict[str, Any] = {
        "method": capture.method,
        "url": base_url + capture.req_path,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _har_headers(capture.req_headers),
        "queryString": [{"name": name, "value": value} for name, _, value in parameters],
        "headersSize": -1,
        "bodySize": capture.req_body.size,
    }
    if capture.req_body.data:
        text, encoding = _text(capture.req_body)
        post = {"mimeType": _content_type(capture.req_headers), "text": text}
        request["postData"] = {**post, "comment": encoding} if encoding else post
    return request


def _har_response(capture: Capture) -> dict[str, Any]:
    text, encoding = _text(capture.resp_body)
    content: dict[str, Any] = {
        "size": capture.resp_body.size,
        "mimeType": _content_type(capture.resp_headers),
        "text": text,
    }
    if encoding:
        content["encoding"] = encoding
    if capture.resp_body.omitted:
        content["comment"] = capture.resp_body.omitted
    return {
        "status": capture.status,
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _har_headers(capture.resp_headers),
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": capture.resp_body.size,
    }


def _har_headers(headers: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def _content_type(headers: dict[str, str]) -> str:
    types = (value for name, value in headers.items() if name.lower() == "content-type")
    return next(types, "application/octet-stream")


def _base64(body: CapturedBody) -> str:
    return base64.b64encode(body.content()).decode("ascii")


def _text(body: CapturedBody) -> tuple[str, str]:
    """Return a body as (text, encoding); the encoding is "" for plain text."""
    try:
        return body.content().decode("utf-8"), ""
    except UnicodeDecodeError:
        return _base64(body), "base64"


def _fits_a_word(body: bytes) -> bool:
    """Return whether a shell word can hold the body, and curl reads it as data (not ``@file``)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not text.startswith("@") and "\0" not in text
