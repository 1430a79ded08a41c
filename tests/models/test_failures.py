"""When failures in a row are a reason to ask a server."""

from hypothesis import given
from hypothesis import strategies as st

from llmsnap.models.failures import LONGEST_SPAN_S, SPAN_S, Failures

steps = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 3.0, 60.0])), max_size=200)


@given(steps, st.integers(0, 6))
def test_a_server_is_asked_after_so_many_failures_over_so_long_without_a_good_answer(
    steps: list[tuple[bool, float]], limit: int
) -> None:
    failures, now = Failures(), 0.0
    row: list[float] = []
    asked_at: list[float] = []
    for is_good, pause_s in steps:
        now += pause_s
        if is_good:
            failures.succeed()
            row, asked_at = [], []
            continue
        row.append(now)
        span_s = min(SPAN_S * 2 ** len(asked_at), LONGEST_SPAN_S)
        due = 0 < limit <= len(row) and now - row[0] >= span_s
        assert failures.fail(limit, now) is due
        if due:
            row = []
            asked_at.append(now)
