"""Takes in a request: finds the model it asks for, and holds the body until it goes on.

There are three kinds of bodies: JSON, which is edited textually; forms, which are spooled; and
everything else, which passes through unread.
"""

from __future__ import annotations

import json
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote

from llmsnap.config.settings import Config
from llmsnap.errors import BadRequest, MethodNotAllowed, NotFound, TooLarge
from llmsnap.proxy.body import (
    JsonRequest,
    coding_of,
    decoded,
    is_true_word,
    model_in_query,
    parse_json,
    with_model,
)
from llmsnap.proxy.call import Call
from llmsnap.proxy.client import Body
from llmsnap.proxy.filters import CompiledFilter
from llmsnap.proxy.multipart import Upload, receive
from llmsnap.proxy.target import Snapshot, Target
from llmsnap.wire.jsonscan import JsonProblem
from llmsnap.wire.paths import FORM_ROUTES, JSON_ROUTES, QUERY_ROUTES, versioned

READ_BYTES = 1 << 16
RESEND_BYTES = 1 << 20
"""Unread bodies up to this size are held in memory, so that they can be sent once more."""
READING = ("GET", "HEAD")


class Work(metaclass=ABCMeta):
    """A request that has been taken in. *requested* is the client's name for the model."""

    requested: str
    stream = False
    prefix = ""
    """Below ``/upstream``: what stands before the path that is sent on."""
    path: str
    """Raw path and query to send on."""

    drops: frozenset[str] = frozenset()
    """Headers that are not true of the body any more, in lower case."""

    @abstractmethod
    def adapt(self, target: Target, name: str) -> None:
        """Apply the filters of *target*, and call the model *name* unless that is empty.

        A further call starts from the client's request again.
        """

    is_kept = True
    """Whether the whole body is here, so that it can be sent again."""

    @abstractmethod
    def body(self) -> Body:
        """Return what is sent on."""

    def held(self) -> bytes:
        """Return the body if it is in memory; a copy of nothing else is made for captures."""
        body = self.body()
        return body if isinstance(body, bytes) else b""

    @property
    @abstractmethod
    def length(self) -> int | None:
        """How long the body is; None when it must go chunked."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the body holds."""


class JsonWork(Work):
    """A JSON request."""

    def __init__(self, request: JsonRequest, path: str) -> None:
        self._received = self._request = request
        self.requested = request.model
        self.stream = request.stream
        self.path = path

    def adapt(self, target: Target, name: str) -> None:
        """See Work."""
        request = self._received
        if name:
            request = request.rewrite({"model": json.dumps(name).encode()})
        if target.filter:
            request = _filtered(request, target.filter, self.requested)
            self.stream = request.stream
        self._request = request

    def body(self) -> bytes:
        """See Work."""
        return self._request.raw

    @property
    def length(self) -> int:
        """See Work."""
        return len(self._request.raw)

    def close(self) -> None:
        """See Work."""


class FormWork(Work):
    """An upload."""

    def __init__(self, upload: Upload, path: str) -> None:
        self._upload = upload
        self.requested = upload.model
        self.stream = is_true_word(upload.text("stream") or "")
        self.path = path

    def adapt(self, target: Target, name: str) -> None:
        """See Work."""
        upload = self._upload
        upload.reset()
        if name:
            upload.rewrite({"model": name})
        if target.filter:
            upload.rewrite(target.filter.form_edits(upload.field_names, self.requested))

    def body(self) -> Body:
        """See Work."""
        return self._upload.chunks

    @property
    def length(self) -> int:
        """See Work."""
        return self._upload.content_length

    def close(self) -> None:
        """See Work."""
        self._upload.close()


class PlainWork(Work):
    """A request whose body is none of our business. Its name stands in the address."""

    def __init__(self, call: Call, requested: str, path: str, limit_bytes: int) -> None:
        self.requested = requested
        self.path = path
        self._length = call.length
        self._call = call
        self._limit_bytes = limit_bytes
        self._held: bytes | None = None
        if call.length is not None:
            _check_length(call.length, limit_bytes, "maxUpload")
            if call.length <= RESEND_BYTES:
                self._held = _read_exactly(call, call.length)
        self.is_kept = self._held is not None

    def adapt(self, target: Target, name: str) -> None:
        """See Work: nothing is rewritten here."""

    def body(self) -> Body:
        """See Work."""
        return self._held if self._held is not None else self._pieces

    @property
    def length(self) -> int | None:
        """See Work."""
        return self._length

    def close(self) -> None:
        """See Work."""

    def _pieces(self) -> Iterator[bytes]:
        taken = 0
        while piece := self._call.read(READ_BYTES):
            taken += len(piece)
            _check_length(taken, self._limit_bytes, "maxUpload")
            yield piece
        if self._length is not None and taken < self._length:
            raise _cut_short(taken, self._length)


class QueryWork(PlainWork):
    """A request whose address names the model in its query."""

    def adapt(self, target: Target, name: str) -> None:
        """See Work: there is nothing but the name to rewrite."""
        if name:
            path, _, query = self.path.partition("?")
            self.path = f"{path}?{with_model(query, name)}"


def take_in(call: Call, snapshot: Snapshot) -> Work:
    """Return the work of an inference request. Blocks while its body is read.

    Raises: MethodNotAllowed, BadRequest, TooLarge.
    """
    path = versioned(call.path)
    config = snapshot.config
    if call.method == "POST" and path in JSON_ROUTES:
        return _json_work(call, config)
    if call.method == "POST" and path in FORM_ROUTES:
        return FormWork(_upload(call, config.max_upload_bytes), _sent_path(call))
    if call.method in READING and path in QUERY_ROUTES:
        return take_in_query(call, snapshot)
    posts = path in JSON_ROUTES or path in FORM_ROUTES
    allow = [*(("POST",) if posts else ()), *(READING if path in QUERY_ROUTES else ()), "OPTIONS"]
    raise MethodNotAllowed(f"{call.path} takes {', '.join(allow)}", allow)


def take_in_query(call: Call, snapshot: Snapshot) -> QueryWork:
    """Return the work of a request that names its model in the query. Raises: BadRequest."""
    model, limit = model_in_query(call.query), snapshot.config.max_upload_bytes
    return QueryWork(call, model, _sent_path(call), limit)


def take_in_upstream(call: Call, snapshot: Snapshot) -> PlainWork:
    """Return the work of a request below ``/upstream/<model>``. Raises: NotFound, TooLarge."""
    raw, question, query = call.raw_path.partition("?")
    wanted = raw.removeprefix("/upstream/").lstrip("/")
    if not wanted:
        raise NotFound("no model id in path: use /upstream/<model>/...")
    # A name nobody knows goes on as well: resolving it tells which ones are near.
    name, rest = snapshot.names.in_path(wanted) or (unquote(wanted.partition("/")[0]), "")
    work = PlainWork(call, name, rest + question + query, snapshot.config.max_upload_bytes)
    work.prefix = raw[: len(raw) - len(rest)] if rest else raw
    return work


def read_body(call: Call, limit_bytes: int) -> bytes:
    """Read the whole body. Raises: TooLarge, before reading where its length is known."""
    if call.length is not None:
        _check_length(call.length, limit_bytes, "maxRequestBody")
        return _read_exactly(call, call.length)
    pieces, size = [], 0
    while piece := call.read(READ_BYTES):
        size += len(piece)
        _check_length(size, limit_bytes, "maxRequestBody")
        pieces.append(piece)
    return b"".join(pieces)


def _json_work(call: Call, config: Config) -> JsonWork:
    encoding = call.header("HTTP_CONTENT_ENCODING")
    coding = coding_of(encoding) if encoding else ""
    body = read_body(call, config.max_request_body_bytes)
    if coding:
        limit = min(config.max_request_body_bytes, config.max_decompressed_body_bytes)
        body = decoded(body, coding, limit)
    work = JsonWork(parse_json(body), _sent_path(call))
    if encoding:
        work.drops = frozenset({"content-encoding"})
    return work


def _filtered(request: JsonRequest, filters: CompiledFilter, requested: str) -> JsonRequest:
    try:
        return request.rewrite(filters.edits(request, requested))
    except JsonProblem as problem:
        raise BadRequest(f"the body cannot be changed as filters say: {problem.what}") from problem


def _read_exactly(call: Call, length: int) -> bytes:
    body = call.read(length) if length else b""
    if len(body) < length:
        raise _cut_short(len(body), length)
    return body


def _cut_short(taken: int, length: int) -> BadRequest:
    return BadRequest(f"the body ended after {taken} of {length} bytes")


def _check_length(length: int, limit_bytes: int, key: str) -> None:
    if length > limit_bytes:
        raise TooLarge(f"the body has {length} bytes or more; {key} allows {limit_bytes}")


def _upload(call: Call, limit_bytes: int) -> Upload:
    if call.length is not None:
        _check_length(call.length, limit_bytes, "maxUpload")
    return receive(
        call.read,
        call.header("CONTENT_TYPE"),
        limit_bytes=limit_bytes,
        query_model=parse_qs(call.query).get("model", [""])[0],
    )


def _sent_path(call: Call) -> str:
    """Path and query to send on.

    ``/v/x`` becomes ``/x``, for servers whose base URL holds the version.
    """
    return call.raw_path[2:] if call.raw_path.startswith("/v/") else call.raw_path
