"""A configuration file is read when it is complete: at rest, and no writer has it open."""

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gevent
import pytest

from llmsnap import configfile
from llmsnap.configfile import is_open_for_writing, settled
from llmsnap.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("models: {a: {cmd: x}}\n")
    return path


class Clock:
    """Sleeps at once, and does something to the file in each pause."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.steps: Iterator[Callable[[], object]] = iter(())
        monkeypatch.setattr(configfile.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(configfile.gevent, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        next(self.steps, lambda: None)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def writes(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(text)


def rewrites(file: Path) -> None:
    """Change the file, but neither its size nor its time."""
    version = file.stat()
    file.write_text(file.read_text().replace("cmd: x", "cmd: y"))
    os.utime(file, ns=(version.st_atime_ns, version.st_mtime_ns))


@pytest.mark.parametrize(
    ("steps", "content"),
    [
        ([writes(""), writes("models:\n"), writes("models: {b: {cmd: y}}\n")], b"{b: {cmd: y}}\n"),
        ([rewrites], b"{a: {cmd: y}}\n"),
        ([Path.unlink, writes("models: {}\n")], b"{}\n"),
    ],
)
def test_what_changes_between_two_looks_is_looked_at_again(
    file: Path, clock: Clock, steps: list[Callable[[Path], object]], content: bytes
) -> None:
    clock.steps = iter([partial(step, file) for step in steps])
    assert settled(str(file)).content == b"models: " + content
    assert clock.pauses == [0.5] * (len(steps) + 1)


@pytest.mark.skipif(not hasattr(configfile.fcntl, "F_SETLEASE"), reason="no leases")
def test_a_file_is_read_when_its_writer_closes_it(file: Path, clock: Clock) -> None:
    writer = file.open("w")
    assert is_open_for_writing(str(file))
    writer.write("models:\n  a: {cmd: x}\n")
    clock.steps = iter([writer.flush, lambda: None, lambda: None, writer.close])
    assert settled(str(file)).content == b"models:\n  a: {cmd: x}\n"
    assert len(clock.pauses) == 4
    with file.open():
        assert not is_open_for_writing(str(file)), "a reader does not hold it"


def test_a_writer_that_never_closes_its_file_is_waited_for_ten_seconds(file, clock) -> None:
    with file.open("a"):
        assert settled(str(file)).content == file.read_bytes()
    assert clock.now == configfile.WRITER_S


def test_a_writer_that_comes_while_the_file_is_looked_at_kills_nothing(file: Path) -> None:
    """The kernel signals who holds a lease that a writer breaks."""
    for _ in range(40):
        writers = [gevent.get_hub().threadpool.spawn(_touch, file) for _ in range(2)]
        is_open_for_writing(str(file))
        gevent.joinall(writers)


def _touch(file: Path) -> None:
    with file.open("a"):
        pass


def test_a_file_that_never_rests_is_given_up_when_asked_for(file: Path, clock: Clock) -> None:
    clock.steps = (lambda n=n: file.write_text("x" * n) for n in range(1, 10_000))
    with pytest.raises(ConfigError, match="did not come to rest within 30 s"):
        settled(str(file))


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "socket", "no folder"])
def test_what_cannot_be_read_says_so_and_never_blocks(kind: str, tmp_path: Path, clock) -> None:
    path = tmp_path / "config.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "no folder":
        path = path / "below" / "config.yaml"
    found = settled(str(path))
    assert found.content == b""
    assert found.trouble is not None
    assert str(path) in found.trouble.what
    assert (found.version is None) == (kind in ("missing", "no folder"))
