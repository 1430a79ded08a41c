"""Files that are on the disk only."""

import os
from pathlib import Path

import pytest

from llmsnap.memory.pagecache import NOWAIT


def cold_file(path: Path, size: int) -> Path:
    """Write a file of *size* bytes and have the page cache forget it; skips where it does not."""
    path.write_bytes(os.urandom(size))
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if NOWAIT and os.preadv(fd, [bytearray(1)], 0, NOWAIT) == 1:
            pytest.skip("this file system keeps everything in memory")
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    return path
