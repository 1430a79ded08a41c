"""Token counts and speeds as inference servers report them at the end of a response.

Every API reports them in one of three members: ``usage`` (top level, or within ``response`` or
``message`` of a streamed event), llama-server's ``timings`` and vLLM's ``metrics``. They are found
by name in the text of the response, so both streamed and whole bodies work, and so do the first and
last bytes of a body whose middle was dropped.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import msgspec
from msgspec import Struct

MAX_MEMBERS = 8  # enough for servers that report usage with every chunk
MAX_COUNT = 2**53

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_CACHED = ("cache_read_input_tokens",)
_CACHED_DETAIL = ("cached_tokens",)
_DETAILS = ("prompt_tokens_details", "input_tokens_details")

_NAMES = (b'"timings"', b'"metrics"', b'"usage"')
_decoder = json.JSONDecoder()


class Usage(Struct, frozen=True):
    """What a response reports about itself; None where it reports nothing.

    *server_ms* is the server's processing time, prompt and generation.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    draft_tokens: int | None = None
    draft_accepted: int | None = None
    prompt_per_second: float | None = None
    tokens_per_second: float | None = None
    server_ms: float | None = None


NOTHING = Usage()
_COUNTS = frozenset({"input_tokens", "output_tokens", "cached_tokens"})

# Fields of Usage by name. Not "float": mypyc would convert the integers.
Known = dict[str, Any]
Read = Callable[[Mapping[str, Any]], Known]


def extract(body: bytes, head: bytes = b"") -> Usage:
    """Return the usage that the response *body* reports.

    Of a long response *body* is the end, and *head* the beginning. The later value wins;
    ``timings`` and ``metrics`` win over ``usage``.
    """
    known = _known(body)
    if head and not known.keys() >= _COUNTS:
        # Anthropic streams report the input in their first event, the output in the last.
        known = _known(head) | known
    return Usage(**known) if known else NOTHING


def _known(body: bytes) -> Known:
    timings, metrics, usage = map(body.count, _NAMES)
    if not (timings or metrics or usage):
        return {}
    if timings < 2 and metrics < 2 and usage < 2 and body[:1] == b"{":
        known = _of_whole(body, timings + metrics + usage)
        if known is not None:
            return known
    text = body.decode("utf-8", "replace")
    reported = _newest_timings(text) if timings else {}
    if metrics and not reported:
        reported = _newest(text, '"metrics"', _from_vllm)
    return _newest(text, '"usage"', _from_usage) | reported if usage else reported


# The members of a response that is one object. Not a class statement: mypyc does not keep the types
# of members, which msgspec needs to decode.
_Whole: Any = msgspec.defstruct("_Whole", [(n, Any, None) for n in ("timings", "metrics", "usage")])
_whole: Any = msgspec.json.Decoder(_Whole)


def _of_whole(body: bytes, named: int) -> Known | None:
    """Return what a short response reports, in a tenth of the time of a search by name.

    None unless *body* is an object with all *named* members at its top level, each an object.
    """
    try:
        whole = _whole.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = [one for one in (whole.timings, whole.metrics, whole.usage) if isinstance(one, dict)]
    if len(found) != named:
        return None
    reported = _present(_from_timings(whole.timings)) if whole.timings else {}
    if whole.metrics and not reported:
        reported = _present(_from_vllm(whole.metrics))
    return _present(_from_usage(whole.usage)) | reported if whole.usage else reported


def _newest_timings(text: str) -> Known:
    for member in _members(text, '"timings"'):
        reported = _present(_from_timings(member))
        if reported:
            return reported
    return {}


def _newest(text: str, name: str, read: Read) -> Known:
    """Return the merged values of all members called *name*; the later ones win."""
    known: Known = {}
    for member in _members(text, name):
        known = _present(read(member)) | known
        if known.keys() >= _COUNTS:
            break
    return known


def _present(values: Known) -> Known:
    return {name: value for name, value in values.items() if value is not None}


def _members(text: str, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects that are values of the member *name* (with its quotes), last one first."""
    start, left = len(text), MAX_MEMBERS
    while left and (start := text.rfind(name, 0, start)) >= 0:
        # A quote after a backslash is inside a string: text about usage, not a member.
        if text[start - 1 : start] == "\\":
            continue
        left -= 1
        value = _value_at(text, start + len(name))
        if isinstance(value, dict):
            yield value


def _value_at(text: str, index: int) -> object:
    """Return the JSON value after the colon expected at *index*; None if there is none."""
    while text[index : index + 1].isspace():
        index += 1
    if text[index : index + 1] != ":":
        return None
    index += 1
    while text[index : index + 1].isspace():
        index += 1
    try:
        value: object = _decoder.raw_decode(text, index)[0]
    except (ValueError, RecursionError):
        return None
    return value


def _from_usage(usage: Mapping[str, Any]) -> Known:
    return {
        "input_tokens": _first_count(usage, _INPUT),
        "output_tokens": _first_count(usage, _OUTPUT),
        "cached_tokens": _cached(usage),
    }


def _cached(usage: Mapping[str, Any]) -> int | None:
    cached = _first_count(usage, _CACHED)
    for name in _DETAILS:
        if cached is None and isinstance(details := usage.get(name), dict):
            cached = _first_count(details, _CACHED_DETAIL)
    return cached


def _from_timings(timings: Mapping[str, Any]) -> Known:
    """Read llama-server's ``timings``."""
    output = _count(timings.get("predicted_n"))
    prompt_ms, predicted_ms = (
        _number(timings.get("prompt_ms")),
        _number(timings.get("predicted_ms")),
    )
    speed = _number(timings.get("predicted_per_second"))
    if speed is None and output and predicted_ms:
        speed = output / predicted_ms * 1000
    known = prompt_ms is not None or predicted_ms is not None
    return {
        "input_tokens": _count(timings.get("prompt_n")),
        "output_tokens": output,
        "cached_tokens": _count(timings.get("cache_n")),
        "draft_tokens": _count(timings.get("draft_n")),
        "draft_accepted": _count(timings.get("draft_n_accepted")),
        "prompt_per_second": _number(timings.get("prompt_per_second")),
        "tokens_per_second": speed,
        "server_ms": (prompt_ms or 0.0) + (predicted_ms or 0.0) if known else None,
    }


def _from_vllm(metrics: Mapping[str, Any]) -> Known:
    """Read vLLM's ``metrics`` (``--enable-per-request-metrics``)."""
    first_ms = _number(metrics.get("time_to_first_token_ms"))
    generation_ms = _number(metrics.get("generation_time_ms"))
    known = first_ms is not None and generation_ms is not None
    return {
        "tokens_per_second": _number(metrics.get("tokens_per_second")),
        "server_ms": (first_ms or 0.0) + (generation_ms or 0.0) if known else None,
    }


def _first_count(members: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in members and (count := _count(members[name])) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    number = _number(value)
    return None if number is None or number > MAX_COUNT else int(number)


def _number(value: object) -> float | None:
    """Read a number leniently: numeric strings count, true is 1; None for everything else."""
    if not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


# --- content encodings ----------------------------------------------------------------------------

MAX_DECODED_BYTES = 64 * 1024 * 1024  # more is not worth reading, or a decompression bomb
STEP_BYTES = 256 * 1024

Decode = Callable[[bytes], bytes]


class CannotDecode(Exception):
    """The body does not match its ``Content-Encoding``, or is too large when decoded."""


class Inflater:
    """gzip and deflate; the latter with the zlib header that most servers send, or without."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate: Any = None
        self._decoded = 0
        self._start = b""

    def __call__(self, data: bytes) -> bytes:
        """Return what *data* adds to the decoded body."""
        if self._inflate is None:
            self._start = data = self._start + data
            if len(data) < 2:
                return b""
            self._inflate = zlib.decompressobj(self._window_bits(data))
        parts = []
        while data:
            try:
                part = self._inflate.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise CannotDecode(str(error)) from error
            parts.append(part)
            self._decoded += len(part)
            if self._decoded > MAX_DECODED_BYTES:
                raise CannotDecode("decoded body too large")
            data = self._inflate.unconsumed_tail or self._next_member()
        return b"".join(parts)

    def _next_member(self) -> bytes:
        """Return the rest after a gzip member, which may be a further member."""
        rest: bytes = self._inflate.unused_data
        if rest and self._gzip:
            self._inflate = zlib.decompressobj(self._window_bits(rest))
            return rest
        return b""

    def _window_bits(self, data: bytes) -> int:
        if self._gzip:
            return 16 + zlib.MAX_WBITS
        zlib_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2].ljust(2, b"\0")) % 31 == 0
        return zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS


class ForeignDecoder:
    """br and zstd, by optional libraries."""

    def __init__(self, decode: Decode, errors: type[Exception]) -> None:
        self._decode, self._errors = decode, errors
        self._decoded = 0

    def __call__(self, data: bytes) -> bytes:
        """Return what *data* adds to the decoded body."""
        try:
            part = self._decode(data)
        except self._errors as error:
            raise CannotDecode(str(error)) from error
        self._decoded += len(part)
        if self._decoded > MAX_DECODED_BYTES:
            raise CannotDecode("decoded body too large")
        return part


def decoder_for(encoding: str) -> Decode | None:
    """Return the decoder of a body with this ``Content-Encoding``, called chunk by chunk.

    None when there is nothing to decode, or the name is unknown. Raises: CannotDecode when the
    library for br or zstd is not installed.
    """
    match encoding.strip().lower():
        case "gzip" | "x-gzip":
            return Inflater(gzip=True)
        case "deflate":
            return Inflater(gzip=False)
        case "br":
            brotli = _library("brotli")
            return ForeignDecoder(brotli.Decompressor().process, brotli.error)
        case "zstd":
            zstd = _library("zstandard")
            return ForeignDecoder(
                zstd.ZstdDecompressor().decompressobj().decompress, zstd.ZstdError
            )
        case _:
            return None


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise CannotDecode(f"{name} is not installed") from error
