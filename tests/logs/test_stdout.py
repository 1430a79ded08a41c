import os
import socket
from pathlib import Path

import gevent
import pytest

from llmsnap.logs.stdout import StdoutWriter


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            assert fd == reader


def test_what_was_written_before_opening_comes_first(pipe):
    reader, fd = pipe
    writer = StdoutWriter(fd)
    writer.write(b"early\n")
    writer.open()
    writer.write(b"late\n")
    writer.close()
    assert os.read(reader, 100) == b"early\nlate\n"


def test_a_pipe_that_nobody_reads_holds_up_nobody(pipe):
    reader, fd = pipe
    writer = StdoutWriter(fd, limit_bytes=100_000)
    writer.open()
    for number in range(5000):
        writer.write(b"%04d" % number + b"x" * 95 + b"\n")
        if number % 500 == 0:
            gevent.idle()
    writer.close(timeout_s=0.01)
    os.set_blocking(reader, False)
    assert os.read(reader, 10).startswith(b"0000x")
    assert os.get_blocking(fd), "the shared file must keep its mode"


def test_a_reader_that_comes_late_is_told_what_is_missing(pipe):
    reader, fd = pipe
    writer = StdoutWriter(fd, limit_bytes=100_000)
    writer.open()
    for _ in range(50):
        writer.write(b"x" * 9999 + b"\n")
        gevent.idle()
    os.set_blocking(reader, False)
    seen = bytearray()

    def read():
        while not seen.endswith(b"the end\n"):
            seen.extend(gevent.os.tp_read(reader, 65536) if select(reader) else b"")

    def select(fd):
        return gevent.select.select([fd], [], [])[0]

    reading = gevent.spawn(read)
    writer.write(b"the end\n")
    reading.get()
    writer.close()
    assert b"bytes of log dropped" in seen
    assert writer.dropped_bytes > 0


def test_a_closed_pipe_ends_the_writing_and_nothing_else(pipe):
    reader, fd = pipe
    writer = StdoutWriter(fd)
    writer.open()
    os.close(reader)
    gevent.idle()  # gevent closes descriptors in the event loop
    writer.write(b"nobody hears this\n")
    writer.close()
    assert writer.broken
    writer.write(b"still fine\n")
    assert "broken" in repr(writer)


def test_a_file_is_appended_to(tmp_path: Path):
    path = tmp_path / "out.log"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:
        writer = StdoutWriter(file.fileno())
        writer.open()
        writer.write(b"after\n")
        writer.close()
    assert path.read_bytes() == b"before\nafter\n"


def test_a_socket_is_written_to_by_a_thread():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = StdoutWriter(ours.fileno())
        writer.open()
        writer.write(b"to the journal\n")
        assert theirs.recv(100) == b"to the journal\n"
        writer.close()


def test_a_terminal_gets_colours_and_no_orders():
    reader, fd = os.openpty()
    try:
        writer = StdoutWriter(fd)
        writer.open()
        writer.write(b"\x1b[31mred\x1b]0;title")
        writer.write(b"\x07 \x1b[2Jmore\n")
        writer.close()
        assert os.read(reader, 100) == b"\x1b[31mred more\r\n"
    finally:
        os.close(reader)
        os.close(fd)
