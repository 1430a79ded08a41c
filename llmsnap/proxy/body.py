"""The JSON or query of a request: which model it asks for, and rewriting it only where needed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, unquote_plus

import gevent
import msgspec

from llmsnap.errors import BadRequest, TooLarge, UnsupportedEncoding
from llmsnap.http import jsontext
from llmsnap.http.jsonscan import JsonProblem
from llmsnap.http.jsontext import Edits, Members, Value

BOM = b"\xef\xbb\xbf"
MAX_MODEL_BYTES = 4096
MAX_FLAG_BYTES = 64
DECODE_BYTES = 1 << 16
PIECE_BYTES = 1 << 20
MAX_RATIO = 100
MAX_RATIO_FROM_BYTES = 1 << 20
"""Short bodies may be as repetitive as they like."""
ANY_ZLIB_FORMAT = 32 + zlib.MAX_WBITS  # zlib.decompressobj: gzip or zlib, by its header
TRUE_WORDS = frozenset({"1", "t", "T", "true", "TRUE", "True"})

_ANYTHING = msgspec.json.Decoder(Any)


class JsonBody:
    """A JSON request: its bytes, the model it names, and its other top-level members.

    *named* is false when the body does not have the name as a text: it came from the address, or is
    a number, which readers write in more than one way.
    """

    __slots__ = ("_members", "model", "named", "raw")

    def __init__(self, raw: bytes, model: str, members: Members, *, named: bool = True) -> None:
        self.raw = raw
        self.model = model
        self.named = named
        self._members = members

    def __repr__(self) -> str:
        return f"<JsonBody for {self.model!r}, {len(self.raw)} bytes>"

    @property
    def stream(self) -> bool:
        """Whether the answer is wanted as a stream."""
        return _is_true(self._last("stream"))

    def get(self, name: str) -> bytes | None:
        """The JSON text of a top-level member, None without one; of repeated ones the last."""
        value = self._last(name)
        return None if value is None else bytes(value)

    def _last(self, name: str) -> Value:
        for found, value in reversed(self._members):
            if found == name:
                return value
        return None

    def rewrite(self, edits: Edits) -> JsonBody:
        """This request after *edits* to its top level; itself when they change nothing."""
        names = {name for name, _ in self._members}
        effective = {n: new for n, new in edits.items() if new is not None or n in names}
        if not effective:
            return self
        raw, members = jsontext.splice(self.raw, self._members, effective)
        model = effective.get("model")
        named = self.named or bool(model)
        return JsonBody(raw, _text(model) if model else self.model, members, named=named)

    def naming(self, model: str) -> JsonBody:
        """This request with *model* for its model; itself where it names that already."""
        if self.named and model == self.model:
            return self
        return self.rewrite({"model": jsontext.dump(model)})


def parse_json(raw: bytes, query_model: str = "") -> JsonBody:
    """The request in the body *raw*, for the model it names, else for *query_model*.

    Whatever a reader could take for a second model is taken out: repeated members, and names that
    equal ``model`` but for case, which Go's encoding/json accepts.

    Raises: BadRequest for what is not a JSON object, or names no model.
    """
    raw = raw.removeprefix(BOM)
    try:
        members = jsontext.members(raw)
    except JsonProblem as problem:
        raise BadRequest(f"the request body is not usable: {_where(problem, raw)}") from problem
    naming = [(name, value) for name, value in members if means_model(name)]
    values = [value for name, value in naming if name == "model"]
    model = _text(values[0]) if values else ""
    if not model and not query_model:
        raise BadRequest("missing or invalid `model` key in the request body", "model")
    is_text = bool(model) and bytes(memoryview(values[0])[:1]) == b'"'
    request = JsonBody(raw, model or query_model, members, named=is_text)
    if len(naming) <= len(values) <= 1:
        return request
    edits: dict[str, bytes | None] = {name: None for name, _ in naming}
    if model:
        edits["model"] = bytes(values[0])
    return request.rewrite(edits)


def means_model(name: str) -> bool:
    """Whether some reader takes a member, field or parameter of this *name* for the model.

    Go's encoding/json ignores case, and a C text ends at a NUL.
    """
    return name == "model" or (
        name[:1] in {"m", "M"} and name.partition("\0")[0].casefold() == "model"
    )


def coding_of(content_encoding: str) -> str:
    """Return how a JSON body is compressed, "" when it is not.

    Raises: UnsupportedEncoding for anything but gzip or deflate, and for one within another.
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
    """Return the JSON in a body that came compressed. Switches greenlets.

    *on_size* is called with the size so far, and may raise what ends it.
    Raises: BadRequest for what is not of that *coding*; TooLarge for what gets larger than
    *limit_bytes*, or larger than an honest body would.
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
        gevent.sleep(0)  # a large body must not hold up what else is going on
    if not decoder.eof:
        raise BadRequest(f"the {coding} body ends too early")
    if decoder.unused_data:
        raise BadRequest(f"more follows the end of the {coding} body")
    return b"".join(pieces)


def _inflated(decoder: Any, raw: bytes, coding: str) -> Iterator[bytes]:
    """Yield what *raw* unpacks to in pieces of bounded size. Raises: BadRequest."""
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


def model_in_query(query: str) -> str:
    """The ``model`` parameter of a query string. Raises: BadRequest without one."""
    model = first_model(query)
    if not model:
        raise BadRequest("missing required `model` query parameter", "model")
    return model


def first_model(query: str) -> str:
    """The first ``model`` parameter of a query string, "" without one."""
    return parse_qs(query).get("model", [""])[0] if query else ""


def with_model(query: str, name: str) -> str:
    """The query with *name* for its model, and everything else as it was sent.

    The same text when it names that one model, or none at all.
    """
    parts = query.split("&")
    others = [part for part in parts if not _names_a_model(part)]
    if len(others) == len(parts):
        return query
    if len(others) == len(parts) - 1 and parse_qs(query).get("model") == [name]:
        return query
    return "&".join([f"model={quote(name, safe='')}", *filter(None, others)])


def _names_a_model(part: str) -> bool:
    """Whether a reader may find a model in this *part* of a query; some cut at ``;`` as well."""
    return any(means_model(unquote_plus(one.partition("=")[0])) for one in part.split(";"))


def _where(problem: JsonProblem, raw: bytes) -> str:
    if problem.position < 0:
        return problem.what
    line = raw.count(b"\n", 0, problem.position) + 1
    column = problem.position - (raw.rfind(b"\n", 0, problem.position) + 1) + 1
    return f"invalid JSON: {problem.what} at byte {problem.position} (line {line}, column {column})"


_NO_NAMES = {b"{": "an object", b"[": "a list", b"t": "true", b"f": "false"}


def _text(value: Value) -> str:
    """A model's name out of a JSON value: numbers in plain decimal, null as nothing.

    Raises: BadRequest for any other value but a text.
    """
    if memoryview(value).nbytes > MAX_MODEL_BYTES:
        raise BadRequest(f"the `model` key is longer than {MAX_MODEL_BYTES} bytes", "model")
    text = bytes(value)
    try:
        if kind := _NO_NAMES.get(text[:1]):
            raise BadRequest(f"the `model` key must be a text, not {kind}", "model")
        decoded: object = _ANYTHING.decode(text)
    except ValueError as error:
        raise BadRequest("the `model` key is not a usable JSON value", "model") from error
    match decoded:
        case str():
            return decoded
        case None:
            return ""
        case float() if decoded.is_integer():
            return str(int(decoded))
    return str(decoded)


def _is_true(value: Value) -> bool:
    if value is None or memoryview(value).nbytes > MAX_FLAG_BYTES:
        return False
    try:
        flag = _ANYTHING.decode(bytes(value))
    except ValueError:
        return False
    if isinstance(flag, str):
        return is_true_word(flag)
    return isinstance(flag, bool | int | float) and bool(flag)


def is_true_word(text: str) -> bool:
    """Whether a text stands for "yes", as Go's ParseBool reads it."""
    return text in TRUE_WORDS
