"""Activity as llama-swap's newer interface shows it: pages by number, statistics."""

from typing import Any

import pytest

from tests.parity import parity
from tests.web.serving import app_of
from tests.web.watched import World


@pytest.fixture
def client(world: World) -> Any:
    odd: dict[int, dict[str, Any]] = {
        4: {"peer": "box"},
        5: {"priority": 3, "selector": "chat", "profile": "work"},
        6: {"status": 500, "reason": "it failed", "input_tokens": None, "tokens_per_second": None},
    }
    for number in range(7):
        usual = {"input_tokens": 10 * number, "tokens_per_second": float(number)}
        world.record(
            model_id="alpha" if number % 2 else "beta",
            path="/v1/chat/completions",
            content_type="application/json",
            ended_ns=(1_700_000_000 + number) * 10**9,
            output_tokens=None,
            prompt_per_second=None,
            **usual | odd.get(number, {}),
        )
    return app_of(lambda: world.service).test_client()


def ids(client: Any, query: str) -> list[int]:
    answer = client.get(f"/api/metrics/activity?{query}")
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json["data"]]


@parity("Store and activity", "`GET /api/metrics/activity` in pages")
def test_pages_are_numbered_and_counted(client) -> None:
    first = client.get("/api/metrics/activity?limit=3").json
    found = [first[name] for name in ("page", "limit", "total", "total_pages")]
    assert found == [1, 3, 7, 3]
    pages = [ids(client, f"limit=3&page={page}") for page in (1, 2, 3, 4)]
    assert pages == [[6, 5, 4], [3, 2, 1], [0], []]


@parity("Store and activity", "filters and order of `/api/metrics/activity`")
def test_records_are_filtered_and_sorted(client) -> None:
    found = {
        "model=alpha": [5, 3, 1],
        "model=alpha&model=beta": [6, 5, 4, 3, 2, 1, 0],
        "min_id=5": [6, 5],
        "min_id=2&max_id=3": [3, 2],
        "start=2023-11-14T22:13:25Z": [6, 5],
        "start=2023-11-14T23:13:25%2B01:00&end=2023-11-14T22:13:25Z": [5],
        "sort=prompt&order=ASC&limit=2": [0, 1],
        "sort=gen_speed&limit=2": [5, 4],
        "sort=resp_status_code&limit=1": [6],
    }
    assert {query: ids(client, query) for query in found} == found


@parity("Store and activity", "a bad parameter: 400")
def test_a_bad_parameter_is_named(client) -> None:
    for query in (
        "limit=0", "limit=1000", "limit=x", "page=0", "page=-1", "min_id=0", "max_id=1e3",
        "min_id=3&max_id=2", "sort=colour", "order=up", "start=yesterday",
        "start=2024-01-02T00:00:00Z&end=2024-01-01T00:00:00Z", "page=99999999999999999999",
    ):  # fmt: skip
        answer = client.get(f"/api/metrics/activity?{query}")
        assert answer.status_code == 400, query
        assert answer.json["error"]["message"].startswith(query.partition("=")[0])


@parity(
    "Store and activity",
    "fields of a row, 0 or -1 for unknown figures",
    "always -1 for unknown figures",
)
@parity(
    "Selectors",
    "`metadata.selector` of a row of activity",
    "the same, and `metadata.profile`; `requested` in `/api/activity`",
)
@parity("Priorities", "`metadata.fifo_priority` of a row of activity")
def test_a_row_has_the_published_fields_and_minus_one_for_what_is_unknown(client) -> None:
    failed, good, by_peer = client.get("/api/metrics/activity?limit=3").json["data"]
    assert good["timestamp"] == "2023-11-14T22:13:25Z"
    assert (good["resp_content_type"], good["resp_status_code"]) == ("application/json", 200)
    assert good["tokens"] == {
        "cache_tokens": -1, "draft_tokens": -1, "draft_acc_tokens": -1, "input_tokens": 50,
        "output_tokens": -1, "prompt_per_second": -1, "tokens_per_second": 5.0,
    }  # fmt: skip
    assert "error_msg" not in good
    assert (failed["error_msg"], failed["tokens"]["input_tokens"]) == ("it failed", -1)
    assert failed["metadata"] == {"fifo_priority": "0"}
    assert good["metadata"] == {"fifo_priority": "3", "selector": "chat", "profile": "work"}
    assert "metadata" not in by_peer


@parity("Store and activity", "`GET /api/metrics/stats` with histograms")
def test_statistics_are_of_one_model_or_of_all(client, world) -> None:
    found = client.get("/api/metrics/stats").json
    assert (found["total_requests"], found["total_input_tokens"]) == (7, 150)
    assert found["prompt_histogram"] is None
    speeds = found["gen_histogram"]
    assert (speeds["min"], speeds["max"], sum(speeds["bins"])) == (0, 5, 6)
    assert 5 <= len(speeds["bins"]) <= 20
    assert client.get("/api/metrics/stats?model=alpha").json["total_requests"] == 3
    assert client.get("/api/metrics/stats?model=none").json["gen_histogram"] is None
    for _ in range(3):
        world.record(model_id="same", tokens_per_second=4.0)
    speeds = client.get("/api/metrics/stats?model=same").json["gen_histogram"]
    assert (speeds["bins"], speeds["binSize"]) == ([3], 0)
