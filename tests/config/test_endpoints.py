import pytest

from llmsnap.config.settings import Endpoint
from tests.config.reading import config, model, problem, problems

ENABLED = "sleepMode: enable"


def test_endpoints_are_read_with_their_timeouts() -> None:
    found = config("""
        sleepRequestTimeout: 15
        wakeRequestTimeout: -4
        models:
          m:
            cmd: s ${PORT}
            sleepMode: enable
            sleepEndpoints:
              - {endpoint: "/sleep?level=1", timeout: 30}
              - {endpoint: /more, method: put, body: '{"p": ${PORT}}'}
            wakeEndpoints: [{endpoint: /wake, method: GET, timeout: 0}]
    """).models["m"]
    assert found.can_sleep
    assert found.sleep_endpoints == (
        Endpoint("/sleep?level=1", "POST", "", 30),
        Endpoint("/more", "PUT", '{"p": 5800}', 15),
    )
    assert found.wake_endpoints == (Endpoint("/wake", "GET", "", 1),)


@pytest.mark.parametrize("mode", ["disable", "~"])
def test_without_sleep_mode_endpoints_do_not_matter(mode: str) -> None:
    found = model(f"sleepMode: {mode}\nsleepEndpoints: [{{endpoint: /s}}]")
    assert not found.can_sleep
    assert found.sleep_endpoints


@pytest.mark.parametrize("mode", ["''", "Enable", "on"])
def test_sleep_mode_is_one_of_two_words(mode: str) -> None:
    found = problem(f"models: {{m: {{cmd: 's ${{PORT}}', sleepMode: {mode}}}}}")
    assert "models.m.sleepMode: must be one of enable, disable" in found


def test_a_model_that_sleeps_needs_both_lists() -> None:
    found = problems("models: {m: {cmd: 's ${PORT}', sleepMode: enable}}")
    assert [each.partition(" - ")[0] for each in found] == [
        "models.m.sleepEndpoints: sleepEndpoints is required when sleepMode is enable",
        "models.m.wakeEndpoints: wakeEndpoints is required when sleepMode is enable",
    ]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("{method: GET}", "[0].endpoint: endpoint is required"),
        ("{endpoint: ''}", "[0].endpoint: endpoint is required"),
        ("{endpoint: /x, method: DELETE}", "[0].method: must be one of GET, POST, PUT, PATCH"),
        ("{endpoint: /x, timeout: -4}", "[0].timeout: must be at least 0 (found -4)"),
        ("text", "[0]: must be a mapping"),
    ],
)
@pytest.mark.parametrize("name", ["sleepEndpoints", "wakeEndpoints"])
def test_faulty_endpoints_are_told_also_when_disabled(name: str, endpoint: str, words: str) -> None:
    found = problems(f"models: {{m: {{cmd: 's ${{PORT}}', {name}: [{endpoint}]}}}}")
    assert f"models.m.{name}{words}" in found[0]
    assert len(found) == 1
