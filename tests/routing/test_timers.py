from llmsnap.routing.timers import Timers


def test_keys_are_due_in_order_of_their_times() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 3.0)
    timers.set("early", 1.0)
    timers.set("middle", 2.0)
    assert timers.next_at() == 1.0
    assert timers.pop_due(2.0) == ["early", "middle"]
    assert timers.pop_due(2.0) == []
    assert timers.next_at() == 3.0


def test_the_last_setting_of_a_key_counts() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.next_at() == 5.0
    timers.set("a", 1.0)
    assert timers.pop_due(9.0) == ["a"]
    assert timers.get("a") is None


def test_a_cancelled_key_is_never_due() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("unknown")
    assert timers.next_at() is None
    assert timers.pop_due(2.0) == []


def test_cancelled_keys_do_not_pile_up() -> None:
    timers: Timers[int] = Timers()
    for key in range(10_000):
        timers.set(key, 3600.0 + key)
        timers.cancel(key)
    assert len(timers) == 0
    assert len(timers._heap) < 200
