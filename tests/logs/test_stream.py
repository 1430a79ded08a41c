from llmsnap.logs.stream import LogStream


def test_history_and_subscription_meet_without_gap_or_overlap():
    stream = LogStream("proxy", 10)
    stream.write(b"0123456789abc")
    history, reader = stream.subscribe()
    stream.write(b"def")
    assert (history, reader.position) == (b"3456789abc", 13)
    assert reader.get() == (b"def", 16, 0)


def test_a_returning_reader_gets_what_it_missed():
    stream = LogStream("proxy", 10)
    stream.write(b"0123456789")
    history, _ = stream.subscribe(after=7)
    assert history == b"789"
    history, reader = stream.subscribe(after=stream.position)
    assert (history, reader.position) == (b"", 10)


def test_every_write_reaches_every_reader_and_sink():
    sunk = []
    stream = LogStream("proxy", sinks=(sunk.append,))
    readers = [stream.subscribe()[1] for _ in range(3)]
    stream.write(b"line\n")
    stream.write(b"")
    assert [reader.get().data for reader in readers] == [b"line\n"] * 3
    assert sunk == [b"line\n"]


def test_a_reader_that_does_not_read_costs_the_others_nothing():
    stream = LogStream("proxy")
    _, idle = stream.subscribe(limit_bytes=100)
    _, busy = stream.subscribe()
    for number in range(1000):
        stream.write(b"%03d\n" % number)
        assert busy.get().data == b"%03d\n" % number
    assert idle.get().dropped > 0


def test_a_closed_reader_is_forgotten():
    stream = LogStream("proxy")
    _, reader = stream.subscribe()
    reader.close()
    stream.write(b"line\n")
    assert repr(stream) == "<LogStream proxy, at 5, 0 readers>"


def test_closing_the_stream_ends_its_readers_but_keeps_the_history():
    stream = LogStream("proxy")
    readers = [stream.subscribe()[1] for _ in range(2)]
    stream.write(b"line\n")
    stream.close()
    assert all(reader.closed for reader in readers)
    assert stream.snapshot() == b"line\n"


def test_clearing_forgets_the_history_but_not_the_position():
    stream = LogStream("proxy")
    stream.write(b"line\n")
    stream.clear()
    assert (stream.snapshot(), stream.position) == (b"", 5)


def test_resizing_keeps_the_newest():
    stream = LogStream("proxy", 10)
    stream.write(b"0123456789")
    stream.resize(4)
    assert stream.snapshot() == b"6789"
    assert stream.snapshot(2) == b"89"
