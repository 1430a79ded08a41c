"""The body of a request and the path to forward: finds the model it names, holds it until sent.

There are three kinds of bodies: JSON, which is edited textually; forms, which are spooled; and
all others, which pass through unparsed.
"""

from __future__ import annotations

import zlib
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import gevent

from llmsnap.config import Config
from llmsnap.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedEncoding,
)
from llmsnap.http import (
    COMFYUI,
    COMFYUI_MODEL,
    RESOURCES,
    UPSTREAM,
    ClientKey,
    JsonProblem,
    ModelPlace,
    below_upstream,
    is_inference,
    leaves_root,
)
from llmsnap.proxy.client import OutgoingBody
from llmsnap.proxy.jsonbody import (
    CompiledFilter,
    JsonBody,
    first_model,
    is_true_word,
    model_in_query,
    parse_json,
    with_model,
)
from llmsnap.proxy.multipart import IN_MEMORY_BYTES, Upload, is_form, receive
from llmsnap.proxy.request import BodyShare, Request, RequestConfig, UpstreamSettings
from llmsnap.routing import PeerRoute

READ_BYTES = 1 << 16
RESEND_BYTES = 1 << 20
"""Unparsed bodies up to this size are held in memory, so that they can be sent again."""
DECODE_BYTES = 1 << 16
PIECE_BYTES = 1 << 20
MAX_RATIO = 100
MAX_RATIO_FROM_BYTES = 1 << 20
"""The limit of the compression ratio does not apply to bodies up to this size."""
ANY_ZLIB_FORMAT = 32 + zlib.MAX_WBITS  # zlib.decompressobj: gzip or zlib, by its header
URLENCODED = "application/x-www-form-urlencoded"
EMPTY_BODY = JsonBody(b"", "", [])


class Payload(metaclass=ABCMeta):
    """The forwarded part of a request. *requested* names the model: the client's or its pin."""

    requested: str
    pinned = ""
    """The name that replaces the client's where the active profile pins it."""
    stream = False
    prefix = ""
    """Below ``/upstream``: the prefix of the forwarded path."""
    path: str
    """Raw path and query to forward."""
    body: OutgoingBody = b""
    """The body to forward, as ``adapt`` has built it."""
    length: int | None = 0
    """Length of *body* in bytes; None: it is sent chunked."""
    is_kept = True
    """Whether the whole body is held, so that it can be sent again."""

    drops: frozenset[str] = frozenset()
    """Headers that do not apply to the body any more, in lower case."""
    adds: tuple[tuple[str, str], ...] = ()
    """Headers that replace them."""

    @abstractmethod
    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """Apply the filters of *settings*, and request the model *name* unless that is empty.

        A further call starts from the client's request again. The result names one model, in the
        body and in the query alike: otherwise a server that reads another place, or another of two
        names, would serve a model that was not authorised.
        """

    def pin(self, target: str) -> None:
        """Name *target* from now on, as if the client had done so."""
        self.requested = self.pinned = target

    @abstractmethod
    def close(self) -> None:
        """Drop the body, which is not sent again. Idempotent."""


class UnparsedPayload(Payload):
    """Placeholder for a body that has not been parsed yet, or could not be; see UNPARSED."""

    requested = ""
    path = ""

    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """See Payload; rewrites nothing."""

    def close(self) -> None:
        """See Payload."""


UNPARSED = UnparsedPayload()


class JsonPayload(Payload):
    """A JSON request."""

    def __init__(self, body: JsonBody, path: str, share: BodyShare) -> None:
        self._received = body
        self._share = share
        self.body, self.length = body.raw, len(body.raw)
        self.requested = body.model
        self.stream = body.stream
        self.path = path

    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """See Payload."""
        name = name or self.pinned
        if "?" in self.path:
            self.path = _with_model(self.path, name or self.requested)
        body = self._received
        if name:
            body = body.naming(name)
        if settings.filter:
            body = _filtered(body, settings.filter, self.requested)
            self.stream = body.stream
        if body is not self._received:
            self._share.in_memory(len(self._received.raw) + len(body.raw))
        self.body, self.length = body.raw, len(body.raw)

    def close(self) -> None:
        """See Payload."""
        self._received, self.body = EMPTY_BODY, b""


class MessagePayload(JsonPayload):
    """The first message of a WebSocket, sent after the handshake with the model's server.

    That handshake offers what was negotiated with the client: *protocol*, and no extension.
    """

    drops = frozenset({"sec-websocket-extensions", "sec-websocket-protocol"})

    def __init__(self, body: JsonBody, path: str, share: BodyShare, protocol: str) -> None:
        super().__init__(body, path, share)
        self.message = b""
        """The message as ``adapt`` has made it."""
        self.body, self.length, self.stream = b"", 0, False
        if protocol:
            self.adds = (("Sec-WebSocket-Protocol", protocol),)

    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """See Payload: the message is what is rewritten."""
        super().adapt(settings, name)
        if isinstance(self.body, bytes):
            self.message = self.body
        self.body, self.length, self.stream = b"", 0, False


class FormPayload(Payload):
    """An upload."""

    def __init__(self, upload: Upload, path: str) -> None:
        self._upload = upload
        self.requested = upload.model
        self.stream = is_true_word(upload.text("stream") or "")
        self.path = path
        self.body, self.length = upload.chunks, upload.content_length

    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """See Payload."""
        name = name or self.pinned
        self.path = _with_model(self.path, name or self.requested)
        upload = self._upload
        upload.reset()
        if name:
            upload.rewrite({"model": name})
        if settings.filter:
            upload.rewrite(settings.filter.form_edits(upload.field_names, self.requested))
        self.length = upload.content_length

    def close(self) -> None:
        """See Payload."""
        self._upload.close()


class RawPayload(Payload):
    """A body that passes unparsed; the path names the model."""

    def __init__(self, request: Request, requested: str, path: str, limit_bytes: int) -> None:
        self.requested = requested
        self.path = path
        self._request = request
        self._limit_bytes = limit_bytes
        self.length = request.length
        self.is_kept = request.length is not None and request.length <= RESEND_BYTES
        if self.is_kept:
            self.body = read_body(request, limit_bytes, "maxUpload")
        else:
            if request.length is not None:
                _check_length(request.length, limit_bytes, "maxUpload")
            self.body = self._pieces

    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """See Payload; rewrites nothing."""

    def close(self) -> None:
        """See Payload."""
        self.body = b""

    def _pieces(self) -> Iterator[bytes]:
        taken, length = 0, self.length
        while piece := self._request.read(READ_BYTES):
            taken += len(piece)
            _check_length(taken, self._limit_bytes, "maxUpload")
            yield piece
        if length is not None and taken < length:
            raise _cut_short(taken, length)


class QueryPayload(RawPayload):
    """A body that passes unparsed; the query names the model."""

    def adapt(self, settings: UpstreamSettings, name: str) -> None:
        """See Payload; rewrites the name alone."""
        self.path = _with_model(self.path, name or self.requested)


def parse_request(
    request: Request, request_config: RequestConfig, path: str = "", implied: str = ""
) -> Payload:
    """Return the payload of a request for the inference route *path*, else for its own path.

    The Content-Type alone decides how a body is parsed, on every route. *implied* is the model of a
    request that names none. Blocks while the body is read.
    Raises: MethodNotAllowed, BadRequest, UnsupportedEncoding, TooLarge, NoRoom.
    """
    path = path or request.path
    resource = RESOURCES[path]
    route = resource.routes.get(request.method)
    if route is None or route.model is ModelPlace.MESSAGE:
        allow = [one for one in resource.methods if one != "GET" or route is None]
        also = ", and GET for a WebSocket only" if route is not None else ""
        raise MethodNotAllowed(f"{request.path} takes {', '.join(allow)}{also}", allow)
    if route.model is ModelPlace.QUERY:
        return _query_payload(request, request_config.config, path, implied)
    if is_form(request.environ.get("CONTENT_TYPE", "")):
        return _form_payload(request, request_config.config, path, implied)
    return _json_payload(request, request_config.config, path, implied)


def parse_message(
    request: Request, request_config: RequestConfig, message: bytes, protocol: str
) -> MessagePayload:
    """Return the payload of a WebSocket whose first *message* names the model. Raises: BadRequest.

    *protocol* is the subprotocol that the client was granted.
    """
    request.body_share.in_memory(len(message))
    parsed = parse_json(message, first_model(request.query))
    path = _sent_path(request.path, request.query)
    return MessagePayload(parsed, path, request.body_share, protocol)


def parse_query(request: Request, request_config: RequestConfig) -> QueryPayload:
    """Return the payload of a request that names its model in the query. Raises: BadRequest."""
    return _query_payload(request, request_config.config, request.path)


def parse_upstream(request: Request, request_config: RequestConfig) -> Payload:
    """Return the payload of a request below ``/upstream/<model>``. Blocks while its body is read.

    Raises: NotFound, Forbidden, and as ``parse_request``.
    """
    raw, question, query = request.raw_path.partition("?")
    name, rest = _model_in_path(request, request_config, raw)
    request.requested = name
    payload = _parse_below(request, request_config, name, rest) if rest else None
    if payload is None:
        limit_bytes = request_config.config.max_upload_bytes
        payload = RawPayload(request, name, rest + question + query, limit_bytes)
    payload.prefix = raw[: len(raw) - len(rest)] if rest else raw
    return payload


def _model_in_path(request: Request, request_config: RequestConfig, raw: str) -> tuple[str, str]:
    """Return the model that the path *raw* names, and the rest. Raises: NotFound."""
    wanted = below_upstream(raw)
    if not wanted:
        raise NotFound("no model id in path: use /upstream/<model>/...")
    if not raw.startswith(UPSTREAM):
        if COMFYUI_MODEL not in request_config.config.models:
            raise NotFound(f"{COMFYUI} serves the local model {COMFYUI_MODEL!r}; there is none")
        return COMFYUI_MODEL, raw.removeprefix(COMFYUI)
    # An unknown name is passed on as well: resolving it suggests similar ones.
    found = request_config.names.below_upstream(wanted, request.key.may_use)
    return found or (unquote(wanted.partition("/")[0]), "")


def _parse_below(
    request: Request, request_config: RequestConfig, name: str, rest: str
) -> Payload | None:
    """Return the payload of a request for *rest* of the model *name*; None if it passes unparsed.

    A peer has other models, other users and an admin API, and would treat the request as
    llmsnap's own: only inference is forwarded, and only for the model that was authorised. A local
    server may have other models too, which matters to keys that are limited to some.
    """
    key = request.key
    route = request_config.names.resolve_model(name, key.may_use)
    if isinstance(route, PeerRoute):
        if not is_inference(rest):
            raise BadRequest(f"peers answer inference routes only, not {rest[:200]!r}")
        return _parse_named(
            request, request_config, rest, (name, route.requested, route.upstream_name)
        )
    _check_rest(key, rest)
    if key.reaches_all or not key.is_scoped:
        return None
    model = route.model
    names = (name, route.requested, model.id, model.use_model_name, *model.aliases)
    return _parse_named(request, request_config, rest, names, implied=name)


def _parse_named(
    request: Request,
    request_config: RequestConfig,
    path: str,
    names: Sequence[str],
    implied: str = "",
) -> Payload:
    """Return the payload of a request for *path* for the model with these *names*.

    *implied* is the model of a request that names none. Raises: BadRequest if it names another.
    """
    payload = parse_request(request, request_config, path, implied)
    if payload.requested not in names:
        payload.close()
        raise BadRequest(
            f"the path names the model {names[0]!r}, the request {payload.requested[:200]!r}",
            "model",
        )
    payload.requested = names[0]
    return payload


def _check_rest(key: ClientKey, rest: str) -> None:
    """Check the path that is sent to a model's server. Raises: BadRequest, Forbidden."""
    if leaves_root(rest):
        raise BadRequest("'..' must not lead out of /upstream/<model>/")
    if rest and not key.reaches_all and not is_inference(rest):
        raise Forbidden(
            f"the key {key.name!r} may use inference routes only below /upstream, "
            f"not {rest[:200]!r}; `upstream: true` in its entry of apiKeys allows all"
        )


def _json_payload(request: Request, config: Config, path: str, implied: str) -> JsonPayload:
    encoding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    coding = coding_of(encoding) if encoding else ""
    body = read_body(request, config.max_request_body_bytes)
    if coding:
        limit = min(config.max_request_body_bytes, config.max_decompressed_body_bytes)
        body = _unpacked(request, body, coding, limit)
    try:
        parsed = parse_json(body, first_model(request.query) or implied)
    except BadRequest as error:
        if not _takes_uploads(path):
            raise
        raise BadRequest(f"{error}; send JSON or multipart/form-data", error.param) from error
    payload = JsonPayload(parsed, _sent_path(path, request.query), request.body_share)
    if encoding:
        payload.drops = frozenset({"content-encoding"})
    if request.environ.get("CONTENT_TYPE", "").lower().startswith(URLENCODED):
        # curl's default; no server should parse as form parameters what was parsed as JSON here.
        payload.drops |= {"content-type"}
        payload.adds = (("Content-Type", "application/json"),)
    return payload


def _form_payload(request: Request, config: Config, path: str, implied: str) -> FormPayload:
    encoding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    if encoding and coding_of(encoding):
        raise UnsupportedEncoding("a form must come as it is, without Content-Encoding")
    uploads = _takes_uploads(path)
    if request.key.is_scoped and not uploads:
        raise BadRequest(f"with a key limited to some models, {path} takes JSON only")
    limit_bytes = config.max_upload_bytes if uploads else config.max_request_body_bytes
    limit_key = "maxUpload" if uploads else "maxRequestBody"
    if request.length is not None:
        _check_length(request.length, limit_bytes, limit_key)
        request.body_share.expect(request.length, on_disk=request.length > IN_MEMORY_BYTES)
    upload = receive(
        _counted(request),
        request.environ.get("CONTENT_TYPE", ""),
        limit_bytes=limit_bytes,
        limit_key=limit_key,
        query_model=first_model(request.query) or implied,
        strict=request.key.is_scoped,
    )
    payload = FormPayload(upload, _sent_path(path, request.query))
    if encoding:
        payload.drops = frozenset({"content-encoding"})
    return payload


def _query_payload(request: Request, config: Config, path: str, implied: str = "") -> QueryPayload:
    if request.key.is_scoped and request.length != 0:
        raise BadRequest(f"with a key limited to some models, a GET of {path} takes no body")
    model = first_model(request.query) or implied or model_in_query(request.query)
    return QueryPayload(request, model, _sent_path(path, request.query), config.max_upload_bytes)


def _takes_uploads(path: str) -> bool:
    return RESOURCES[path].common.model is ModelPlace.FORM


def _filtered(body: JsonBody, filters: CompiledFilter, requested: str) -> JsonBody:
    try:
        return body.rewrite(filters.edits(body, requested))
    except JsonProblem as problem:
        raise BadRequest(f"the body cannot be changed as filters say: {problem.what}") from problem


def read_body(request: Request, limit_bytes: int, limit_key: str = "maxRequestBody") -> bytes:
    """Read the whole body. Raises: TooLarge and NoRoom, before reading if its length is known.

    Blocks; raises BadRequest for a body that ends too early.
    """
    length = request.length
    if length is not None:
        _check_length(length, limit_bytes, limit_key)
        request.body_share.expect(length)
    pieces, size = BytesIO(), 0
    while length is None or size < length:
        piece = request.read(READ_BYTES if length is None else min(READ_BYTES, length - size))
        if not piece:
            break
        size += len(piece)
        if length is None:
            _check_length(size, limit_bytes, limit_key)
        request.body_share.in_memory(size)
        if size == length == len(piece):
            return piece  # in one chunk, as nearly all arrive
        pieces.write(piece)
    if length is not None and size < length:
        raise _cut_short(size, length)
    return pieces.getvalue()


def _counted(request: Request) -> Callable[[int], bytes]:
    """Return the reader of a form, which counts the bytes where the spool keeps them."""
    taken = 0

    def read(size: int) -> bytes:
        nonlocal taken
        chunk = request.read(size)
        taken += len(chunk)
        if taken <= IN_MEMORY_BYTES:
            request.body_share.in_memory(taken)
        else:
            request.body_share.on_disk(taken)
            request.body_share.in_memory(0)
        return chunk

    return read


def _unpacked(request: Request, body: bytes, coding: str, limit_bytes: int) -> bytes:
    packed = len(body)
    unpacked = decoded(
        body, coding, limit_bytes, lambda size: request.body_share.in_memory(packed + size)
    )
    request.body_share.in_memory(len(unpacked))
    return unpacked


def _cut_short(taken: int, length: int) -> BadRequest:
    return BadRequest(f"the body ended after {taken} of {length} bytes")


def _check_length(length: int, limit_bytes: int, key: str) -> None:
    if length > limit_bytes:
        raise TooLarge(f"the body has {length} bytes or more; {key} allows {limit_bytes}")


def _sent_path(path: str, query: str) -> str:
    """Return path and query to forward, ``/v/x`` as ``/x`` if the base URL has the version."""
    resource = RESOURCES.get(path)
    path = path if resource is None else resource.sent_path
    return f"{path}?{query}" if query else path


def _with_model(target: str, name: str) -> str:
    """Return the path and query *target* with *name* as the only model in its query."""
    path, question, query = target.partition("?")
    return f"{path}?{with_model(query, name)}" if question else path


def coding_of(content_encoding: str) -> str:
    """Return the compression of a JSON body, "" without one.

    Raises: UnsupportedEncoding for any other than gzip or deflate, and for several.
    """
    named = [one.strip().lower() for one in content_encoding.split(",")]
    codings = [one for one in named if one not in {"", "identity"}]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in {"gzip", "x-gzip", "deflate"}:
        raise UnsupportedEncoding(
            f"Content-Encoding {content_encoding[:64]!r} is not supported; use gzip, once"
        )
    return codings[0]


def decoded(raw: bytes, coding: str, limit_bytes: int, on_size: Callable[[int], object]) -> bytes:
    """Return the decompressed JSON of a body. Switches greenlets.

    *on_size* is called with the size so far, and may raise to end it.
    Raises: BadRequest if it is not of that *coding*; TooLarge if the result exceeds *limit_bytes*,
    or the ratio of a plausible body.
    """
    decoder = zlib.decompressobj(ANY_ZLIB_FORMAT)
    pieces, size = [], 0
    most = min(limit_bytes, max(MAX_RATIO_FROM_BYTES, MAX_RATIO * len(raw)))
    for piece in _inflated(decoder, raw, coding):
        size += len(piece)
        if size > most:
            raise _unpacks_too_large(size, limit_bytes)
        on_size(size)
        pieces.append(piece)
        gevent.sleep(0)  # a large body must not block other greenlets
    if not decoder.eof:
        raise BadRequest(f"the {coding} body ends too early")
    if decoder.unused_data:
        raise BadRequest(f"more follows the end of the {coding} body")
    return b"".join(pieces)


def _inflated(decoder: Any, raw: bytes, coding: str) -> Iterator[bytes]:
    """Yield the decompressed *raw* in chunks of bounded size. Raises: BadRequest."""
    for start in range(0, len(raw), DECODE_BYTES):
        data, piece = raw[start : start + DECODE_BYTES], b""
        # A full piece may leave more behind in the decoder, even when nothing is left to feed.
        while not decoder.eof and (data or len(piece) == PIECE_BYTES):
            try:
                piece = decoder.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise BadRequest(f"the body is not {coding}, as its header says") from error
            data = decoder.unconsumed_tail
            yield piece
        if decoder.eof and start + DECODE_BYTES < len(raw):
            raise BadRequest(f"more follows the end of the {coding} body")


def _unpacks_too_large(size: int, limit_bytes: int) -> TooLarge:
    if size > limit_bytes:
        return TooLarge(
            f"the body has more than {limit_bytes} bytes when decompressed; "
            "maxDecompressedBody and maxRequestBody limit it"
        )
    return TooLarge(f"the body grows to more than {MAX_RATIO} times its size when decompressed")
