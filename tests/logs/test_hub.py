import pytest

from llmsnap.logs.hub import LogHub


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


def hub_with(stdout, **settings) -> LogHub:
    return LogHub(stdout=stdout, **settings)


@pytest.mark.parametrize(
    ("to_stdout", "expected"),
    [
        ("proxy", b"[INFO] hello\n"),
        ("upstream", b"loading\n"),
        ("both", b"[INFO] hello\nloading\n"),
        ("none", b""),
    ],
)
def test_the_setting_decides_what_reaches_stdout_and_nothing_else(stdout, to_stdout, expected):
    hub = hub_with(stdout, to_stdout=to_stdout)
    hub.proxy.write(b"[INFO] hello\n")
    hub.model("llama").feed(b"loading\n")
    assert stdout.data == expected
    assert hub.combined.snapshot() == b"[INFO] hello\nloading\n"
    assert hub.proxy.snapshot() == b"[INFO] hello\n"
    assert hub.upstream.snapshot() == b"loading\n"
    assert hub.model("llama").stream.snapshot() == b"loading\n"


def test_models_meet_in_the_upstream_log_by_lines(stdout):
    hub = hub_with(stdout)
    hub.model("a").feed(b"loading 10 %")
    hub.model("b").feed(b"ready\n")
    hub.model("a").feed(b"loading 99 %\n")
    assert hub.upstream.snapshot() == b"loading 10 %\nready\nloading 99 %\n"
    assert hub.model("a").stream.snapshot() == b"loading 10 %loading 99 %\n"


def test_a_stopped_models_history_stays_until_its_next_start(stdout):
    hub = hub_with(stdout)
    hub.model("llama").feed(b"bye\n")
    assert hub.model("llama").stream.snapshot() == b"bye\n"
    hub.model("llama").restart()
    assert hub.model("llama").stream.snapshot() == b""
    assert hub.upstream.snapshot() == b"bye\n"


def test_a_forgotten_model_ends_its_readers(stdout):
    hub = hub_with(stdout)
    _, reader = hub.model("llama").stream.subscribe()
    hub.forget("llama")
    hub.forget("llama")
    assert reader.closed
    assert repr(hub) == "<LogHub, 0 models>"


def test_new_settings_apply_to_what_is_there_and_what_comes(stdout):
    hub = hub_with(stdout, to_stdout="none")
    hub.model("llama").feed(b"0123456789\n")
    hub.configure(to_stdout="upstream", capacity=4)
    hub.model("llama").feed(b"ab\n")
    hub.model("qwen").feed(b"cdefgh\n")
    assert hub.model("llama").stream.snapshot() == b"\nab\n"
    assert hub.model("qwen").stream.snapshot() == b"fgh\n"
    assert stdout.data == b"ab\ncdefgh\n"


def test_dropped_bytes_are_told_per_model(stdout):
    hub = hub_with(stdout)
    hub.model("llama").feed(b"x" * 5_000_000)
    hub.model("qwen").feed(b"fine\n")
    hub.model("llama").close()
    assert hub.dropped_bytes["llama"] > 4_900_000
    assert hub.dropped_bytes["qwen"] == 0


def test_closing_ends_all_readers_and_stdout(stdout):
    hub = hub_with(stdout)
    hub.open()
    streams = [hub.proxy, hub.upstream, hub.combined, hub.model("llama").stream]
    readers = [stream.subscribe()[1] for stream in streams]
    hub.close()
    assert all(reader.closed for reader in readers)
    assert (stdout.opened, stdout.closed) == (True, True)


def test_without_a_writer_of_its_own_it_writes_to_descriptor_one():
    assert LogHub().stdout.fd == 1
