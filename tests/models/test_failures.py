"""When failures in a row are a reason to ask a server."""

from random import Random

from llmsnap.models.failures import LONGEST_SPAN_S, SPAN_S, Failures
from tests.drawn import cases


@cases(200)
def test_a_server_is_asked_after_so_many_failures_over_so_long_without_a_good_answer(
    chance: Random,
) -> None:
    limit, good = chance.randint(0, 6), chance.choice([0.0, 0.1, 0.5])
    failures, now = Failures(), 0.0
    row: list[float] = []
    asked_at: list[float] = []
    for _ in range(chance.randint(0, 100)):
        now += chance.choice([0.0, 0.5, 3.0, 60.0])
        if chance.random() < good:
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
