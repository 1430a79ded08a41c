"""Writes small GGUF files, to the specification of ggml (docs/gguf.md)."""

import struct
from collections.abc import Mapping, Sequence

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def pair(key: str, value: int | float | str | Sequence[int] | Sequence[str]) -> bytes:
    if isinstance(value, str):
        return text(key) + struct.pack("<I", STRING) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", FLOAT32, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", UINT32, value)
    kind = STRING if isinstance(value[0], str) else UINT32
    items = b"".join(text(one) if isinstance(one, str) else struct.pack("<I", one) for one in value)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + items


def gguf(
    metadata: Mapping[str, int | float | str | Sequence[int] | Sequence[str]],
    tensors: Mapping[str, int] | None = None,
    version: int = 3,
) -> bytes:
    """Return a file with these tensors, whose sizes are multiples of 32."""
    sizes = tensors or {}
    head = b"GGUF" + struct.pack("<IQQ", version, len(sizes), len(metadata))
    head += b"".join(pair(key, value) for key, value in metadata.items())
    offset = 0
    for name, size in sizes.items():
        head += text(name) + struct.pack("<IQIQ", 1, size, 0, offset)
        offset += size
    return head + b"\0" * (-len(head) % 32) + b"\0" * offset
