"""Facts about llmsnap.web.health, through the gateway."""

from __future__ import annotations

import pytest

from tests.web.serving import site

TEXT = 'models: {a: {cmd: x, proxy: "http://localhost:1"}}'
PATHS = ["/health", "/wol-health", "/ready"]


@pytest.fixture
def here():
    with site(TEXT) as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
def test_a_server_that_serves_is_healthy_and_ready(here, path) -> None:
    answer = here.client.get(path)
    assert (answer.status, answer.text, answer.mimetype) == ("200 OK", "OK", "text/plain")
    assert "X-Queue-Ms" not in answer.headers
    assert here.client.head(path).status_code == 200


def test_while_it_ends_it_is_healthy_and_not_ready(here) -> None:
    here.service.accepts = False
    assert [here.client.get(path).status_code for path in PATHS] == [200, 200, 503]


@pytest.mark.parametrize("path", PATHS)
def test_they_are_for_reading(here, path) -> None:
    answer = here.client.post(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
