import io

import gevent
import pytest
from gevent.event import Event

from llmsnap.commands import logs
from llmsnap.errors import KeyRefused, NoSuchModel
from tests.commands.conftest import Running


class Heard(io.BytesIO):
    """An output that tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self._came = Event()

    def flush(self) -> None:
        self._came.set()

    def wait_for(self, text: bytes) -> None:
        while self.getvalue() != text:
            self._came.clear()
            assert self._came.wait(4), self.getvalue()


def run(server: Running, *argv: str, out: io.BytesIO | None = None, key: str = "") -> bytes:
    return server.run(logs.main, *argv, key=key, out=out or io.BytesIO())


@pytest.fixture
def talking(server: Running) -> Running:
    for number in range(3):
        server.service.logs.model("llama").feed(b"line %d\n" % number)
    server.service.logs.proxy.write(b"[INFO] of our own\n")
    return server


def test_each_log_is_shown_under_each_of_its_names(talking: Running) -> None:
    lines = b"line 0\nline 1\nline 2\n"
    assert run(talking, "llama") == run(talking, "first") == run(talking, "upstream") == lines
    assert run(talking, "proxy").startswith(b"[INFO] of our own\n")
    assert b"line 2\n[INFO] of our own\n" in run(talking)
    for count, text in (("1", b"line 2\n"), ("2", b"line 1\nline 2\n"), ("0", b"")):
        assert run(talking, "llama", "-n", count) == text


def test_what_cannot_be_shown_is_told(server: Running, guarded: Running) -> None:
    with pytest.raises(NoSuchModel, match=r"did you mean llama\?.*proxy or upstream"):
        run(server, "lama")
    with pytest.raises(KeyRefused, match="no admin right"):
        run(guarded, "llama", key="guest")
    with pytest.raises(SystemExit, match=r"^2$"):
        run(server, "-n", "-1")


def test_following_goes_on_with_what_comes(talking: Running) -> None:
    out = Heard()
    following = gevent.spawn(run, talking, "llama", "--follow", "-n", "1", out=out)
    out.wait_for(b"line 2\n")
    talking.service.logs.model("llama").feed(b"new\n")
    out.wait_for(b"line 2\nnew\n")
    talking.service.end_feeds()
    assert following.get() == b"line 2\nnew\n"


class Screen(Heard):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_model_may_colour_its_text_and_no_more(server: Running) -> None:
    said = b"\x1b[31mred\x1b]52;c;ZXZpbA==\x07\x1b[2J\n"
    server.service.logs.model("llama").feed(said)
    assert run(server, "llama").endswith(said)
    assert run(server, "llama", out=Screen()).endswith(b"\x1b[31mred\n\x1b[0m")
