"""Metadata of GGUF model files: the keys that determine how much memory a model needs.

Source: the GGUF specification of ggml (``docs/gguf.md``), versions 2 and 3. The ``gguf`` package
builds an object for every token of the vocabulary, which takes seconds and holds the interpreter's
lock; this reader skips them. Everything blocks on the file system.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
STRING, ARRAY = 8, 9
KEPT_ARRAY = 4096
"""Longer arrays, such as vocabularies, are skipped; there is one value per layer in those kept."""
MAX_KEYS = 100_000
MAX_ITEMS = 10_000_000
MAX_TENSORS = 1_000_000
MAX_TEXT = 1 << 24
MAX_DIMENSIONS = 8
SPLIT_KEY = "split.count"

Value = int | float | str | bool | list[int | float | bool]


class BadGguf(ValueError):
    """The file is no GGUF file, or it is damaged or incomplete."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; *offset* is relative to the begin of the data."""

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Gguf:
    """The metadata of one file; *tensors* in the order of their offsets, *data_bytes* in all."""

    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...] = ()
    data_bytes: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    """The bytes of each tensor, padding included."""

    @property
    def architecture(self) -> str:
        """The prefix of the model's keys: ``llama``, ``gemma3``, ``qwen3moe``."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str) -> Value | None:
        """Return the value of ``<architecture>.<key>``."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def number(self, key: str) -> int | None:
        """Return a whole number of ``<architecture>.<key>``; None where there is none."""
        value = self.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def layers(self, key: str, count: int) -> list[int]:
        """Return a number for each of *count* layers: one value stands for all, none for 0."""
        value = self.get(key)
        if isinstance(value, list):
            numbers = [int(one) for one in value[:count]]
            return numbers + [0] * (count - len(numbers))
        return [self.number(key) or 0] * count


def read(path: str | Path) -> Gguf:
    """Return the metadata of the file at *path*. Raises: OSError, BadGguf."""
    with Path(path).open("rb") as file:
        reader = _Reader(file)
        try:
            return _read(reader, Path(path).stat().st_size)
        except (struct.error, UnicodeDecodeError, OverflowError) as error:
            raise BadGguf(f"{path} is damaged or incomplete: {error}") from None


def _read(reader: _Reader, size: int) -> Gguf:
    if reader.take(4) != MAGIC:
        raise BadGguf("no GGUF file: it does not begin with GGUF")
    version, tensor_count, key_count = reader.unpack("<IQQ")
    if version not in VERSIONS:
        raise BadGguf(f"version {version} of GGUF is not known, only {VERSIONS}")
    if key_count > MAX_KEYS or tensor_count > MAX_TENSORS:
        raise BadGguf(f"{key_count} keys and {tensor_count} tensors are too many")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = reader.text()
        value = reader.value(*reader.unpack("<I"))
        if value is not None:
            metadata[key] = value
    tensors = sorted(_tensors(reader, tensor_count), key=lambda tensor: tensor.offset)
    alignment = metadata.get("general.alignment", 32)
    step = alignment if isinstance(alignment, int) and alignment > 0 else 32
    data_bytes = max(0, size - -(-reader.position // step) * step)
    ends = [tensor.offset for tensor in tensors[1:]] + [data_bytes]
    sizes = {
        tensor.name: max(0, end - tensor.offset) for tensor, end in zip(tensors, ends, strict=False)
    }
    return Gguf(metadata, tuple(tensors), data_bytes, sizes)


def _tensors(reader: _Reader, count: int) -> Iterator[Tensor]:
    for _ in range(count):
        name = reader.text()
        (dimensions,) = reader.unpack("<I")
        if dimensions > MAX_DIMENSIONS:
            raise BadGguf(f"tensor {name!r} has {dimensions} dimensions")
        reader.skip(8 * dimensions + 4)
        yield Tensor(name, *reader.unpack("<Q"))


class _Reader:
    """Reads values in the order of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @property
    def position(self) -> int:
        return self._file.tell()

    def take(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) < count:
            raise BadGguf("the file ends within its metadata: it is incomplete")
        return found

    def skip(self, count: int) -> None:
        if count < 4096:  # within the buffer in most cases, where seek would drop it
            self.take(count)
        else:
            self._file.seek(count, 1)

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def text(self) -> str:
        return self.take(self._length()).decode()

    def value(self, kind: int) -> Value | None:
        """Return the next value, None for an array that is not kept."""
        if kind == STRING:
            return self.take(self._length()).decode(errors="replace")
        if kind == ARRAY:
            return self._array()
        return self.unpack(self._scalar(kind))[0]

    def _array(self) -> Value | None:
        item, count = self.unpack("<IQ")
        if count > MAX_ITEMS:
            raise BadGguf(f"an array of {count} items")
        if item == STRING:
            for _ in range(count):
                self.skip(self._length())
            return None
        layout = self._scalar(item)
        if count > KEPT_ARRAY:
            self.skip(struct.calcsize(layout) * count)
            return None
        return list(self.unpack(f"<{count}{layout[1]}"))

    def _length(self) -> int:
        (count,) = self.unpack("<Q")
        if count > MAX_TEXT:
            raise BadGguf(f"a text of {count} bytes")
        return count

    def _scalar(self, kind: int) -> str:
        if kind not in SCALARS:
            raise BadGguf(f"values of type {kind} are not known")
        return SCALARS[kind]
