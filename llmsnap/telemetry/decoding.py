"""Undoes the compression of an answer as it passes, with bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

MAX_DECODED_BYTES = 64 * 1024 * 1024  # beyond this an answer is not worth reading, or is a bomb
STEP_BYTES = 256 * 1024

Decode = Callable[[bytes], bytes]


class CannotDecode(Exception):
    """The bytes are not what ``Content-Encoding`` said, or become too many."""


class Inflater:
    """gzip and deflate; the latter with the zlib header most servers send, or without."""

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
        """Return what follows the end of a gzip member, which may be another one."""
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
    """br and zstd, by whatever library is installed."""

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
    """Return what decodes a body of this ``Content-Encoding``, chunk by chunk.

    None when there is nothing to decode; unknown names count as that. Raises: CannotDecode when
    the library for br or zstd is not installed.
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
