"""Files in the page cache."""

import os
from pathlib import Path

import pytest

from llmsnap.memory import mapped_bytes, read_into_cache
from llmsnap.memory.pagecache import MIB, PIECE_BYTES
from tests.fakes.cold import cold_file


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    path = cold_file(tmp_path / "weights", 5 * MIB + 7)
    assert read_into_cache(str(path), 0, 4 * MIB) == 4 * MIB
    assert read_into_cache(str(path), 0, 4 * MIB) in (0, 4 * MIB)  # not every one can tell
    assert read_into_cache(str(path), 4 * MIB, 32 * MIB) == MIB + 7


def test_there_is_nothing_beyond_the_end_and_in_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"0123456789")
    assert read_into_cache(str(path), PIECE_BYTES, PIECE_BYTES) == 0
    assert read_into_cache(str(tmp_path), 0, PIECE_BYTES) == 0
    os.mkfifo(tmp_path / "pipe")
    assert read_into_cache(str(tmp_path / "pipe"), 0, PIECE_BYTES) == 0
    with pytest.raises(FileNotFoundError):
        read_into_cache(str(tmp_path / "missing"), 0, PIECE_BYTES)


def test_mapped_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    def process(pid: int, pages: int, *children: int) -> None:
        folder = tmp_path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True)
        (folder / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))
        (folder / "statm").write_text(f"900 500 {pages} 1 0 2 0\n")

    process(7, 3, 8)
    process(8, 2)
    page = os.sysconf("SC_PAGE_SIZE")
    assert mapped_bytes([7], proc=tmp_path) == 5 * page
    assert mapped_bytes([7, 99], proc=tmp_path) == 5 * page
