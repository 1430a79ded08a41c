"""The user interface's files: read once, named by their content, compressed once when asked for.

A version stands for the content of all files. It is part of their address, so that browsers may
keep them for ever, and relative imports between JavaScript modules stay within one version.
"""

from __future__ import annotations

import hashlib
import importlib
import mimetypes
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gevent

from llmsnap.http import best_encoding

COMPRESS_FROM_BYTES = 1024
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_TEXT = ("text/", "application/json", "application/manifest+json", "image/svg+xml")

Compress = Callable[[bytes], bytes]


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(data) + packer.flush()


def compressors() -> dict[str, Compress]:
    """Return how to make each content encoding, the best first; br where its library is there."""
    found: dict[str, Compress] = {}
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        pass
    else:
        found["br"] = lambda data: bytes(brotli.compress(data, quality=9))
    return {**found, "gzip": _gzip}


@dataclass(slots=True)
class Asset:
    """One file: its bytes, media type and ETag, and the encodings made of it so far."""

    data: bytes = field(repr=False)
    media_type: str
    etag: str
    encoded: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def compressible(self) -> bool:
        """Whether it is text, and long enough for compression to pay."""
        return len(self.data) > COMPRESS_FROM_BYTES and self.media_type.startswith(_TEXT)


class Assets:
    """The files below *folder*, read with the first question; ``refresh`` sees edits since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compressors = compressors()
        self._files: dict[str, Asset] = {}
        self._seen: object = None
        self._version = ""

    def __repr__(self) -> str:
        return f"<Assets {self._folder}, {len(self._files)} files, version {self._version}>"

    @property
    def version(self) -> str:
        """Names the content of all files."""
        self._ensure_read()
        return self._version

    def get(self, name: str) -> Asset | None:
        """Return the file with this path below the folder, None if there is none."""
        self._ensure_read()
        return self._files.get(name)

    def names(self, prefix: str) -> list[str]:
        """Return the paths that begin with *prefix*, sorted."""
        self._ensure_read()
        return [name for name in self._files if name.startswith(prefix)]

    def encoded(self, asset: Asset, accept_encoding: str) -> tuple[str, bytes]:
        """Return the best encoding the client takes ("" for none) and the bytes in it.

        May wait for a worker thread, the first time a file is asked for in an encoding.
        """
        if not asset.compressible:
            return "", asset.data
        encoding = best_encoding(accept_encoding, list(self._compressors))
        if not encoding:
            return "", asset.data
        if encoding not in asset.encoded:
            pool = gevent.get_hub().threadpool
            asset.encoded[encoding] = pool.apply(self._compressors[encoding], (asset.data,))
        return encoding, asset.encoded[encoding]

    def _ensure_read(self) -> None:
        if not self._files:
            self.refresh()

    def refresh(self) -> None:
        """Read the files again if one was edited since. Cheap enough for every page load."""
        paths = sorted(path for path in self._folder.rglob("*") if path.is_file())
        seen = [(str(path), (stat := path.stat()).st_mtime_ns, stat.st_size) for path in paths]
        if seen == self._seen:
            return
        files = {path.relative_to(self._folder).as_posix(): _read(path) for path in paths}
        names = "".join(f"{name} {asset.etag}\n" for name, asset in files.items())
        self._version = hashlib.sha256(names.encode()).hexdigest()[:16]
        self._files, self._seen = files, seen


def _read(path: Path) -> Asset:
    data = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    digest = hashlib.sha256(data).hexdigest()[:32]
    return Asset(data, media_type or "application/octet-stream", digest)
