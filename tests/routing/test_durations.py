from llmsnap.routing.durations import KEPT, Durations, DurationStats


def test_nothing_measured_yet() -> None:
    assert Durations().snapshot() == DurationStats(0, None, None, None)
    assert Durations().p50_s is None


def test_percentiles_are_durations_that_happened() -> None:
    durations = Durations()
    for seconds in (1.0, 9.0, 2.0, 4.0):
        durations.append(seconds)
    assert durations.snapshot() == DurationStats(count=4, last_s=4.0, p50_s=2.0, p90_s=9.0)


def test_only_the_last_few_count_towards_percentiles() -> None:
    durations = Durations()
    durations.append(1000.0)
    for _ in range(KEPT):
        durations.append(1.0)
    assert durations.snapshot() == DurationStats(KEPT + 1, 1.0, 1.0, 1.0)
