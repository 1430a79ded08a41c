import pytest

from llmsnap.routing.backoff import Backoff, delay_s

BOOM = RuntimeError("boom")


@pytest.mark.parametrize(
    ("failures", "alone", "evicting"),
    [
        (0, 0, 0),
        (1, 0, 0),  # forgiven
        (2, 1, 1),
        (3, 2, 2),
        (7, 32, 32),
        (8, 60, 64),
        (11, 60, 512),
        (12, 60, 600),
        (10_000, 60, 600),
    ],
)
def test_delays_double_up_to_a_limit(failures: int, alone: float, evicting: float) -> None:
    assert delay_s(failures, evicts=False) == alone
    assert delay_s(failures, evicts=True) == evicting


def test_the_wait_runs_from_the_last_failure() -> None:
    backoff = Backoff()
    backoff.fail(BOOM, 100.0)
    assert backoff.wait_s(100.0, evicts=False) == 0
    backoff.fail(BOOM, 200.0)
    assert backoff.wait_s(200.25, evicts=False) == 0.75
    assert backoff.wait_s(300.0, evicts=False) == 0


def test_clearing_forgets_everything() -> None:
    backoff = Backoff()
    backoff.fail(BOOM, 0.0)
    backoff.fail(BOOM, 0.0)
    backoff.clear()
    assert (backoff.failures, backoff.error) == (0, None)
    assert backoff.wait_s(0.0, evicts=True) == 0
