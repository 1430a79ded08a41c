"""Takes in a request: finds the model it asks for, and holds the body until it goes on.

There are three kinds of bodies: JSON, which is edited textually; forms, which are spooled; and
everything else, which passes through unread.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from urllib.parse import unquote

from llmsnap.config.settings import Config
from llmsnap.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedEncoding,
)
from llmsnap.proxy.body import (
    JsonRequest,
    coding_of,
    decoded,
    first_model,
    is_true_word,
    model_in_query,
    parse_json,
    with_model,
)
from llmsnap.proxy.budget import Held
from llmsnap.proxy.call import Call
from llmsnap.proxy.client import Body
from llmsnap.proxy.filters import CompiledFilter
from llmsnap.proxy.multipart import IN_MEMORY_BYTES, Upload, is_form, receive
from llmsnap.proxy.target import Snapshot, Target
from llmsnap.routing.names import PeerRoute
from llmsnap.wire.auth import Key
from llmsnap.wire.jsonscan import JsonProblem
from llmsnap.wire.paths import (
    FORM_ROUTES,
    JSON_ROUTES,
    QUERY_ROUTES,
    is_inference,
    leaves_root,
    versioned,
)

READ_BYTES = 1 << 16
RESEND_BYTES = 1 << 20
"""Unread bodies up to this size are held in memory, so that they can be sent once more."""
READING = ("GET", "HEAD")
URLENCODED = "application/x-www-form-urlencoded"
NOTHING = JsonRequest(b"", "", [])


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
    adds: tuple[tuple[str, str], ...] = ()
    """Headers that are true of it instead."""

    @abstractmethod
    def adapt(self, target: Target, name: str) -> None:
        """Apply the filters of *target*, and call the model *name* unless that is empty.

        A further call starts from the client's request again. What goes on names one model, in
        the body and in the query alike: a server that read another place, or another of two
        names, would serve a model that was not asked for here.
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
        """Let go of the body, which is not sent again. Idempotent."""


class JsonWork(Work):
    """A JSON request."""

    def __init__(self, request: JsonRequest, path: str, held: Held) -> None:
        self._received = self._request = request
        self._held = held
        self.requested = request.model
        self.stream = request.stream
        self.path = path

    def adapt(self, target: Target, name: str) -> None:
        """See Work."""
        self.path = _with_model(self.path, name or self.requested)
        request = self._received
        if name:
            request = request.naming(name)
        if target.filter:
            request = _filtered(request, target.filter, self.requested)
            self.stream = request.stream
        self._request = request
        if request is not self._received:
            self._held.in_memory(len(self._received.raw) + len(request.raw))

    def body(self) -> bytes:
        """See Work."""
        return self._request.raw

    @property
    def length(self) -> int:
        """See Work."""
        return len(self._request.raw)

    def close(self) -> None:
        """See Work."""
        self._received = self._request = NOTHING


class FormWork(Work):
    """An upload."""

    def __init__(self, upload: Upload, path: str) -> None:
        self._upload = upload
        self.requested = upload.model
        self.stream = is_true_word(upload.text("stream") or "")
        self.path = path

    def adapt(self, target: Target, name: str) -> None:
        """See Work."""
        self.path = _with_model(self.path, name or self.requested)
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
                self._held = _read_all(call, limit_bytes, "maxUpload")
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
        if self._held is not None:
            self._held = b""

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
        self.path = _with_model(self.path, name or self.requested)


def take_in(call: Call, snapshot: Snapshot) -> Work:
    """Return the work of an inference request. Blocks while its body is read.

    Raises: MethodNotAllowed, BadRequest, UnsupportedEncoding, TooLarge.
    """
    return _take_in(call, snapshot, call.path)


def _take_in(call: Call, snapshot: Snapshot, path: str, implied: str = "") -> Work:
    """Return the work of a request for the inference route *path*; see ``take_in``.

    A body is what its Content-Type says, on every route. *implied* is the model of a request that
    names none.
    """
    route = versioned(path)
    posts = route in JSON_ROUTES or route in FORM_ROUTES
    if call.method == "POST" and posts:
        if is_form(call.header("CONTENT_TYPE")):
            return _form_work(call, snapshot.config, path, implied)
        return _json_work(call, snapshot.config, path, implied)
    if call.method in READING and route in QUERY_ROUTES:
        return _query_work(call, snapshot.config, path, implied)
    allow = [*(("POST",) if posts else ()), *(READING if route in QUERY_ROUTES else ()), "OPTIONS"]
    raise MethodNotAllowed(f"{call.path} takes {', '.join(allow)}", allow)


def take_in_query(call: Call, snapshot: Snapshot) -> QueryWork:
    """Return the work of a request that names its model in the query. Raises: BadRequest."""
    return _query_work(call, snapshot.config, call.path)


def take_in_upstream(call: Call, snapshot: Snapshot) -> Work:
    """Return the work of a request below ``/upstream/<model>``. Blocks while its body is read.

    Raises: NotFound, Forbidden, and as ``take_in``.
    """
    raw, question, query = call.raw_path.partition("?")
    wanted = raw.removeprefix("/upstream/").lstrip("/")
    if not wanted:
        raise NotFound("no model id in path: use /upstream/<model>/...")
    # A name nobody knows goes on as well: resolving it tells which ones are near.
    found = snapshot.names.in_path(wanted, call.key.may_use)
    name, rest = found or (unquote(wanted.partition("/")[0]), "")
    call.requested = name
    work = _take_in_below(call, snapshot, name, rest) if rest else None
    if work is None:
        limit_bytes = snapshot.config.max_upload_bytes
        work = PlainWork(call, name, rest + question + query, limit_bytes)
    work.prefix = raw[: len(raw) - len(rest)] if rest else raw
    return work


def _take_in_below(call: Call, snapshot: Snapshot, name: str, rest: str) -> Work | None:
    """Return the work of a request for *rest* of the model *name*; None if all of it passes unread.

    A peer has other models, other users and an administration, and would take the request for
    ours: only inference goes on, and only for the model that was authorised. A server of ours may
    have other models too, which matters to keys that may use some only.
    """
    key = call.key
    route = snapshot.names.resolve(name, key.may_use)
    if isinstance(route, PeerRoute):
        if not is_inference(rest):
            raise BadRequest(f"peers answer inference routes only, not {rest[:200]!r}")
        return _take_in_named(call, snapshot, rest, (name, route.upstream_name))
    _check_rest(key, rest)
    if key.reaches_all or not key.is_scoped:
        return None
    model = route.model
    names = (name, model.id, model.use_model_name, *model.aliases)
    return _take_in_named(call, snapshot, rest, names, implied=name)


def _take_in_named(
    call: Call, snapshot: Snapshot, path: str, names: Sequence[str], implied: str = ""
) -> Work:
    """Return the work of a request for *path* that names the first of *names*, by any of them.

    *implied* is what it names where it names nothing. Raises: BadRequest.
    """
    work = _take_in(call, snapshot, path, implied)
    if work.requested not in names:
        work.close()
        raise BadRequest(
            f"the path names the model {names[0]!r}, the request {work.requested[:200]!r}", "model"
        )
    work.requested = names[0]
    return work


def _check_rest(key: Key, rest: str) -> None:
    """Check the path that a model's server is sent. Raises: BadRequest, Forbidden."""
    if leaves_root(rest):
        raise BadRequest("'..' must not lead out of /upstream/<model>/")
    if rest and not key.reaches_all and not is_inference(rest):
        raise Forbidden(
            f"the key {key.name!r} may use inference routes only below /upstream, "
            f"not {rest[:200]!r}; `upstream: true` in its entry of apiKeys allows all"
        )


def read_body(call: Call, limit_bytes: int) -> bytes:
    """Read the whole body. Raises: TooLarge and NoRoom, where its length is known before reading.

    Blocks; raises BadRequest for a body that ends too early.
    """
    return _read_all(call, limit_bytes, "maxRequestBody")


def _json_work(call: Call, config: Config, path: str, implied: str) -> JsonWork:
    encoding = call.header("HTTP_CONTENT_ENCODING")
    coding = coding_of(encoding) if encoding else ""
    body = read_body(call, config.max_request_body_bytes)
    if coding:
        limit = min(config.max_request_body_bytes, config.max_decompressed_body_bytes)
        body = _unpacked(call, body, coding, limit)
    request = _parsed(body, path, first_model(call.query) or implied)
    work = JsonWork(request, _sent_path(path, call.query), call.held)
    if encoding:
        work.drops = frozenset({"content-encoding"})
    if call.header("CONTENT_TYPE").lower().startswith(URLENCODED):
        # curl's default, and no server should find parameters in what was read as JSON here.
        work.drops |= {"content-type"}
        work.adds = (("Content-Type", "application/json"),)
    return work


def _parsed(body: bytes, path: str, query_model: str) -> JsonRequest:
    try:
        return parse_json(body, query_model)
    except BadRequest as error:
        if versioned(path) not in FORM_ROUTES:
            raise
        raise BadRequest(f"{error}; send JSON or multipart/form-data", error.param) from error


def _form_work(call: Call, config: Config, path: str, implied: str) -> FormWork:
    encoding = call.header("HTTP_CONTENT_ENCODING")
    if encoding and coding_of(encoding):
        raise UnsupportedEncoding("a form must come as it is, without Content-Encoding")
    uploads = versioned(path) in FORM_ROUTES
    if call.key.is_scoped and not uploads:
        raise BadRequest(f"with a key limited to some models, {path} takes JSON only")
    limit_bytes = config.max_upload_bytes if uploads else config.max_request_body_bytes
    limit_key = "maxUpload" if uploads else "maxRequestBody"
    if call.length is not None:
        _check_length(call.length, limit_bytes, limit_key)
        call.held.expect(call.length, on_disk=call.length > IN_MEMORY_BYTES)
    upload = receive(
        _counted(call),
        call.header("CONTENT_TYPE"),
        limit_bytes=limit_bytes,
        limit_key=limit_key,
        query_model=first_model(call.query) or implied,
        strict=call.key.is_scoped,
    )
    work = FormWork(upload, _sent_path(path, call.query))
    if encoding:
        work.drops = frozenset({"content-encoding"})
    return work


def _query_work(call: Call, config: Config, path: str, implied: str = "") -> QueryWork:
    if call.key.is_scoped and call.length != 0:
        raise BadRequest(f"with a key limited to some models, a GET of {path} takes no body")
    model = first_model(call.query) or implied or model_in_query(call.query)
    return QueryWork(call, model, _sent_path(path, call.query), config.max_upload_bytes)


def _filtered(request: JsonRequest, filters: CompiledFilter, requested: str) -> JsonRequest:
    try:
        return request.rewrite(filters.edits(request, requested))
    except JsonProblem as problem:
        raise BadRequest(f"the body cannot be changed as filters say: {problem.what}") from problem


def _read_all(call: Call, limit_bytes: int, limit_key: str) -> bytes:
    length = call.length
    if length is not None:
        _check_length(length, limit_bytes, limit_key)
        call.held.expect(length)
    pieces, size = BytesIO(), 0
    while length is None or size < length:
        piece = call.read(READ_BYTES if length is None else min(READ_BYTES, length - size))
        if not piece:
            break
        size += len(piece)
        _check_length(size, limit_bytes, limit_key)
        call.held.in_memory(size)
        if size == length == len(piece):
            return piece  # as nearly all do
        pieces.write(piece)
    if length is not None and size < length:
        raise _cut_short(size, length)
    return pieces.getvalue()


def _counted(call: Call) -> Callable[[int], bytes]:
    """Return what reads a form, and counts it where the spool keeps it."""
    taken = 0

    def read(size: int) -> bytes:
        nonlocal taken
        chunk = call.read(size)
        taken += len(chunk)
        if taken <= IN_MEMORY_BYTES:
            call.held.in_memory(taken)
        else:
            call.held.on_disk(taken)
            call.held.in_memory(0)
        return chunk

    return read


def _unpacked(call: Call, body: bytes, coding: str, limit_bytes: int) -> bytes:
    packed = len(body)
    unpacked = decoded(body, coding, limit_bytes, lambda size: call.held.in_memory(packed + size))
    call.held.in_memory(len(unpacked))
    return unpacked


def _cut_short(taken: int, length: int) -> BadRequest:
    return BadRequest(f"the body ended after {taken} of {length} bytes")


def _check_length(length: int, limit_bytes: int, key: str) -> None:
    if length > limit_bytes:
        raise TooLarge(f"the body has {length} bytes or more; {key} allows {limit_bytes}")


def _sent_path(path: str, query: str) -> str:
    """Path and query to send on, the path spelled as the route is.

    ``/v/x`` becomes ``/x``, for servers whose base URL holds the version.
    """
    path = path[2:] if path.startswith("/v/") else path
    return f"{path}?{query}" if query else path


def _with_model(target: str, name: str) -> str:
    """The path and query *target*, whose query names no other model than *name*."""
    path, question, query = target.partition("?")
    return f"{path}?{with_model(query, name)}" if question else path
