import pytest

from llmsnap.telemetry.activity import distribution, histogram, percentile, statistics
from llmsnap.telemetry.events import ActivityRecord


def test_sums_and_distributions_for_all_and_per_model():
    stats = statistics(
        [
            ActivityRecord(
                id=0, model_id="a", status=200, output_tokens=10, tokens_per_second=40.0
            ),
            ActivityRecord(id=1, model_id="a", status=502, load_ms=8200.0, client_left=True),
            ActivityRecord(id=2, requested="b", status=200, output_tokens=None),
        ]
    )
    assert stats["total"]["requests"] == 3
    assert (stats["total"]["errors"], stats["total"]["client_left"]) == (1, 1)
    assert list(stats["models"]) == ["a", "b"]
    assert stats["models"]["a"]["output_tokens"] == 10
    assert stats["models"]["a"]["tokens_per_second"]["p50"] == 40.0
    assert stats["models"]["b"]["load_ms"] is None


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.5, 51), (0.95, 96), (0.99, 100), (1.0, 100)]
)
def test_percentiles(share, value):
    assert percentile(range(1, 101), share) == value


def test_a_distribution_of_nothing_is_unknown():
    assert distribution([]) is None


def test_a_distribution_of_one():
    shown = distribution([7.0])
    assert (shown["count"], shown["min"], shown["p99"], shown["mean"]) == (1, 7.0, 7.0, 7.0)
    assert shown["histogram"] == {"start": 7.0, "width": 0.0, "counts": [1]}


@pytest.mark.parametrize(("count", "bins"), [(2, 10), (60, 12), (1000, 30)])
def test_histograms_have_ten_to_thirty_bins_and_lose_nothing(count, bins):
    shown = histogram([float(n) for n in range(count)])
    assert len(shown["counts"]) == bins
    assert sum(shown["counts"]) == count
    assert shown["start"] == 0.0
