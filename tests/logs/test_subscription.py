import gevent

from llmsnap.logs.subscription import Subscription

NOW = 0.0


def test_a_reader_gets_all_that_has_come_in_one_piece():
    reader = Subscription(position=100)
    reader.offer(b"one\n")
    reader.offer(b"two\n")
    assert reader.get() == (b"one\ntwo\n", 108, 0)
    assert reader.get(NOW) is None


def test_a_reader_waits_until_something_comes():
    reader = Subscription()
    waiting = gevent.spawn(reader.get)
    gevent.idle()
    assert not waiting.ready()
    reader.offer(b"line\n")
    assert waiting.get().data == b"line\n"


def test_a_large_backlog_comes_in_pieces_of_the_size_asked_for():
    reader = Subscription()
    for data in (b"abc", b"defghi", b"j"):
        reader.offer(data)
    pieces = [reader.get(max_bytes=4) for _ in range(3)]
    assert pieces == [(b"abcd", 4, 0), (b"efgh", 8, 0), (b"ij", 10, 0)]
    assert reader.poll() is None
    assert reader._cost == 0


def test_a_slow_reader_loses_the_oldest_and_is_told_how_much():
    reader = Subscription(position=1000, limit_bytes=400)
    for number in range(10):
        reader.offer(b"%d" % number * 100)
    loss = reader.get()
    assert loss == (b"\n[llmsnap: 800 bytes of log dropped, this reader is too slow]\n", 1800, 800)
    assert reader.get() == (b"8" * 100 + b"9" * 100, 2000, 0)
    assert reader.dropped_bytes == 800


def test_a_write_beyond_the_limit_keeps_its_end():
    reader = Subscription(limit_bytes=100)
    reader.offer(b"a" * 60 + b"b" * 100)
    assert reader.get().dropped == 60
    assert reader.get().data == b"b" * 100


def test_empty_lines_count_too():
    reader = Subscription(limit_bytes=10_000)
    for _ in range(100_000):
        reader.offer(b"\n")
    assert len(reader._chunks) < 200


def test_after_close_the_queued_output_is_still_there():
    reader = Subscription()
    reader.offer(b"last words\n")
    reader.close()
    reader.offer(b"too late\n")
    assert reader.get().data == b"last words\n"
    assert reader.get() is None
    assert reader.closed
    assert repr(reader) == "<Subscription closed, at 11, 0 chunks waiting>"


def test_close_wakes_the_reader_and_tells_the_stream_once():
    closed = []
    reader = Subscription(on_close=closed.append)
    waiting = gevent.spawn(reader.get)
    gevent.idle()
    reader.close()
    reader.close()
    assert waiting.get() is None
    assert closed == [reader]


def test_a_loss_is_counted_when_it_happens_not_when_it_is_told():
    reader = Subscription(limit_bytes=1000)
    for _ in range(10):
        reader.offer(b"x" * 400)
    assert reader.dropped_bytes == 3200
    reader.get()
    assert reader.dropped_bytes == 3200
