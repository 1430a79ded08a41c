import gzip
import sys
import zlib

import pytest

from llmsnap.telemetry import usage as decoding
from llmsnap.telemetry.usage import CannotDecode, decoder_for

TEXT = b'{"usage": {"prompt_tokens": 4}}' * 40


def raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def brotli(data: bytes) -> bytes:
    return pytest.importorskip("brotli").compress(data)


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        (" GZip ", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:500]) + gzip.compress(data[500:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("br", brotli),
        ("zstd", zstd),
    ],
)
def test_bodies_come_out_as_they_went_in(encoding, encode, size):
    decode = decoder_for(encoding)
    assert b"".join(decode(chunk) for chunk in split(encode(TEXT), size)) == TEXT


@pytest.mark.parametrize("encoding", ["", "identity", "rot13"])
def test_other_names_mean_nothing_to_decode(encoding):
    assert decoder_for(encoding) is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_something_else_cannot_be_decoded(encoding):
    with pytest.raises(CannotDecode):
        decoder_for(encoding)(b"\xff\xff plain text, not compressed at all")


@pytest.mark.parametrize("encode", [gzip.compress, zstd])
def test_a_bomb_is_given_up(encode, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_DECODED_BYTES", 100_000)
    decode = decoder_for("gzip" if encode is gzip.compress else "zstd")
    with pytest.raises(CannotDecode, match="too large"):
        decode(encode(bytes(2_000_000)))


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", None)
    with pytest.raises(CannotDecode, match="brotli is not installed"):
        decoder_for("br")
