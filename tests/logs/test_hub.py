import os
import socket
from pathlib import Path

import gevent
import pytest

from llmsnap.logs.hub import LogHub, StdoutWriter
from tests.parity import parity


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            assert fd == reader


def sockets():
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


WRITTEN = b"\x1b[31mred\x1b]0;title\x07 \x1b[2Jmore\n"


@pytest.mark.parametrize(
    ("ends", "shown"),
    [(os.pipe, WRITTEN), (sockets, WRITTEN), (os.openpty, b"\x1b[31mred more\r\n")],
)
def test_all_comes_through_and_a_terminal_gets_colours_and_no_orders(ends, shown):
    reader, fd = ends()
    writer = StdoutWriter(fd)
    writer.write(WRITTEN[:14])
    writer.open()
    writer.write(WRITTEN[14:])
    writer.close()
    assert os.read(reader, 100) == shown
    os.close(reader)
    os.close(fd)


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


class FakeStdout:
    def __init__(self):
        self.data = b""
        self.opened = self.closed = False

    def write(self, data):
        self.data += data

    def open(self):
        self.opened = True

    def close(self, timeout_s):
        self.closed = True


@pytest.fixture
def stdout():
    return FakeStdout()


@pytest.fixture
def hub(stdout):
    return LogHub(stdout=stdout)


@parity(
    "Newer keys",
    "`logToStdout`: `proxy`, `http`, `upstream`, `both`, `none`, and lists",
    "the same; `proxy` includes `http`",
)
@pytest.mark.parametrize(
    ("to_stdout", "expected"),
    [
        (["proxy"], b"[INFO] hello\nGET /\n"),
        (["upstream"], b"loading\n"),
        (["http"], b"GET /\n"),
        (["http", "proxy"], b"[INFO] hello\nGET /\n"),
        (["http", "upstream"], b"GET /\nloading\n"),
        ([], b""),
    ],
)
def test_the_setting_decides_what_reaches_stdout_and_nothing_else(stdout, to_stdout, expected):
    hub = LogHub(stdout=stdout, to_stdout=to_stdout)
    hub.proxy.write(b"[INFO] hello\n")
    hub.write_entries(b"GET /\n")
    hub.model("llama").feed(b"loading\n")
    assert stdout.data == expected
    assert hub.combined.snapshot() == b"[INFO] hello\nGET /\nloading\n"
    assert hub.proxy.snapshot() == b"[INFO] hello\nGET /\n"
    assert hub.upstream.snapshot() == b"loading\n"
    assert hub.model("llama").stream.snapshot() == b"loading\n"


def test_models_meet_in_the_upstream_log_by_lines(hub):
    hub.model("a").feed(b"loading 10 %")
    hub.model("b").feed(b"ready\n")
    hub.model("a").feed(b"loading 99 %\n")
    assert hub.upstream.snapshot() == b"loading 10 %\nready\nloading 99 %\n"
    assert hub.model("a").stream.snapshot() == b"loading 10 %loading 99 %\n"


def test_a_stopped_models_history_stays_until_its_next_start(hub):
    hub.model("llama").feed(b"bye\n")
    assert hub.model("llama").stream.snapshot() == b"bye\n"
    hub.model("llama").restart()
    assert hub.model("llama").stream.snapshot() == b""
    assert hub.upstream.snapshot() == b"bye\n"


def test_a_forgotten_model_ends_its_readers(hub):
    stream = hub.model("llama").stream
    _, reader = stream.subscribe()
    hub.forget("llama")
    hub.forget("llama")
    assert reader.closed
    assert hub.model("llama").stream is not stream


def test_new_settings_apply_to_what_is_there_and_what_comes(stdout):
    hub = LogHub(stdout=stdout, to_stdout=[])
    hub.model("llama").feed(b"0123456789\n")
    hub.configure(to_stdout=["upstream"], capacity=4)
    hub.model("llama").feed(b"ab\n")
    hub.model("qwen").feed(b"cdefgh\n")
    assert hub.model("llama").stream.snapshot() == b"\nab\n"
    assert hub.model("qwen").stream.snapshot() == b"fgh\n"
    assert stdout.data == b"ab\ncdefgh\n"


def test_dropped_bytes_are_told_per_model(hub):
    hub.model("llama").feed(b"x" * 5_000_000)
    hub.model("qwen").feed(b"fine\n")
    hub.model("llama").close()
    assert hub.dropped_bytes["llama"] > 4_900_000
    assert hub.dropped_bytes["qwen"] == 0


def test_closing_ends_all_readers_and_stdout(hub, stdout):
    hub.open()
    streams = [hub.proxy, hub.upstream, hub.combined, hub.model("llama").stream]
    readers = [stream.subscribe()[1] for stream in streams]
    hub.proxy.write(b"history\n")
    hub.close()
    assert all(reader.closed for reader in readers)
    assert hub.proxy.snapshot() == b"history\n"
    assert (stdout.opened, stdout.closed) == (True, True)
