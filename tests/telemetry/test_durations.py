from hypothesis import given
from hypothesis import strategies as st

from llmsnap.telemetry import milliseconds


@given(st.integers(0, 10**12))
def test_whole_microseconds_stay_what_they_are(micros: int) -> None:
    assert milliseconds(micros / 1e6) == micros / 1000


@given(st.floats(0, 1e6))
def test_nothing_is_told_that_is_shorter_than_a_microsecond(seconds: float) -> None:
    told = milliseconds(seconds)
    assert abs(told - seconds * 1000) <= 0.00051
    assert told == round(told, 3)


def test_what_is_told_is_short() -> None:
    assert repr(milliseconds(0.1234567)) == "123.457"
    assert repr(milliseconds(0.0)) == "0.0"
