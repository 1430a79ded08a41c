"""Content codings, so that what reads answers can be tried on compressed ones."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from llmsnap.simulator.exchange import Refusal, Response

# The name asked for -> the name in the header, and the window bits zlib knows the format by.
_CODINGS = {"gzip": ("gzip", 31), "deflate": ("deflate", 15), "raw-deflate": ("deflate", -15)}


def encode(response: Response, coding: str) -> Response:
    """Return *response* in *coding*, each chunk readable as it comes. Raises Refusal 400."""
    if coding not in _CODINGS:
        raise Refusal(400, f"sim_encoding is not one of {', '.join(_CODINGS)}: {coding}")
    name, window_bits = _CODINGS[coding]
    headers = [pair for pair in response.headers if pair[0] != "Content-Length"]
    headers.append(("Content-Encoding", name))
    body: Iterable[bytes] = _compress(response.body, window_bits)
    if not response.streamed:
        body = [b"".join(body)]
        headers.append(("Content-Length", str(len(body[0]))))
    return replace(response, headers=headers, body=body)


def _compress(chunks: Iterable[bytes], window_bits: int) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=window_bits)
    for chunk in chunks:
        yield packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()
