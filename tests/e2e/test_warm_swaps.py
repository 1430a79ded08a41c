"""What is kept warm over swaps, with real processes: answers are checked after a wake."""

import re
import time
from pathlib import Path

import gevent
import pytest

from tests.e2e.harness import Running
from tests.fakes.cold import cold_file

pytestmark = pytest.mark.e2e

WAKING = """\
startPort: {port}
logLevel: debug
macros:
  sim: {sim}
models:
  corrupt: &sleeper
    cmd: ${{sim}} --corrupt-after-wake
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  harmless:
    <<: *sleeper
    cmd: ${{sim}} --recase-after-wake
  varying:
    <<: *sleeper
    cmd: ${{sim}} --vary
  unchecked:
    <<: *sleeper
    cmd: ${{sim}} --corrupt-after-wake
    wakeCheck: false
"""


READING = """\
startPort: {port}
logLevel: debug
macros:
  sim: {sim}
models:
  first:
    cmd: ${{sim}}
  second:
    cmd: ${{sim}} FILE
"""

TOGETHER = """\
startPort: {port}
macros:
  sim: {sim}
models:
  broken:
    cmd: ${{sim}}
  fine:
    cmd: ${{sim}}
groups:
  both:
    swap: false
    members: [broken, fine]
"""


def answer(server: Running, model: str) -> str:
    response = server.chat(model, "hello")
    assert response.status_code == 200
    text: str = response.json()["choices"][0]["message"]["content"]
    return text.lower()


def learn(server: Running, model: str) -> None:
    """Have *model* serve a request, and wait until its answer to the check is known."""
    before = server.output.count(f"<{model}> its answer to the check is")
    assert "hello" in answer(server, model)
    server.wait_for(lambda: server.output.count(f"<{model}> its answer to the check is") > before)


def nap(server: Running, model: str) -> str:
    """Put *model* to sleep, and return what it answers once it was woken."""
    assert server.post(f"/api/models/sleep/{model}").status_code == 200
    return answer(server, model)


def last_swap(server: Running) -> tuple[str, list[str]]:
    swap = server.swaps()[-1]
    return swap["kind"], [phase["name"] for phase in swap["phases"]]


def test_corrupted_wakes_restart_a_model_and_end_its_sleeping(start) -> None:
    server = start(WAKING)
    for wakes in (1, 2):
        learn(server, "corrupt")
        assert "hello" in nap(server, "corrupt"), "the client never sees garbage"
        kind, phases = last_swap(server)
        assert (kind, phases[-3:]) == ("start", ["failed_wake", "failed_check", "load"])
        assert server.output.count("wrong answers after its wake") == wakes
    assert server.post("/api/models/sleep/corrupt").status_code == 409
    assert "it does not sleep any more" in server.output
    answer(server, "corrupt")
    for path, name in (("/running", "running"), ("/api/overview", "models")):
        (why, *others) = [each["sleep_off"] for each in server.get(path).json()[name]]
        assert "answered wrong after 2 wakes in a row" in why, path
        assert not any(others)
    assert len(server.records()) == 5, "the questions are no requests"
    assert "hello" in answer(server, "varying")
    assert server.running() == {"varying": "ready"}


def test_the_files_of_the_next_model_are_read_while_another_one_answers(
    start, tmp_path: Path
) -> None:
    file = cold_file(tmp_path / "weights.gguf", 3 << 20)
    server = start(READING.replace("FILE", f"--read-model --model {file}"))
    stream = server.chat("first", stream=True, sim_tokens=100_000, sim_tps=10)
    asked = gevent.spawn(answer, server, "second")
    found = server.wait_output(r"<second> read (\d+) MiB of its files ahead")
    assert int(found[1]) <= 3
    stream.close()
    assert "hello" in asked.get()


def test_a_server_that_fails_is_restarted_and_one_that_gets_bad_requests_is_not(start) -> None:
    server = start(TOGETHER)
    for model in ("broken", "fine"):
        assert "hello" in answer(server, model)
    server.post("/upstream/broken/sim/options", {"fail": True})
    began = time.monotonic()
    while time.monotonic() < began + 11 or "is restarted" not in server.output:
        assert server.chat("broken").status_code in (200, 500)
        assert server.chat("fine", sim_status=500).status_code == 500
        gevent.sleep(1)
    assert "hello" in answer(server, "broken"), "a new process has new options"
    assert len(re.findall(r"<\w+> is restarted: its requests fail", server.output)) == 1
    assert [swap["target"] for swap in server.swaps()] == ["broken", "fine", "broken"]


def test_a_harmless_difference_after_a_wake_passes_and_an_unchecked_model_answers_as_it_likes(
    start,
) -> None:
    server = start(WAKING)
    for model in ("harmless", "varying"):
        learn(server, model)
        assert "hello" in nap(server, model).replace("  ", " ")
        kind, phases = last_swap(server)
        assert (kind, phases[-1]) == ("wake", "canary")
    assert "hello" in answer(server, "unchecked")
    assert "hello" not in nap(server, "unchecked")
    assert last_swap(server)[1][-1] == "load"
