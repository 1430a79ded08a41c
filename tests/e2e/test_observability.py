"""What shows why a response was slow, through the real command."""

import base64
import contextlib
import http.client
import json
import re
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from gevent import socket

from llmsnap.http.sse import SseFrame, SseParser
from tests.e2e.api import serving
from tests.e2e.harness import Running, events, text_of
from tests.e2e.raw.test_websockets import read_frame, upgrade
from tests.server.raw import RawClient

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
macros:
  sim: {sim}
models:
  coder:
    cmd: ${{sim}} --tokens-per-second 50 --tokens 60
  chat:
    cmd: ${{sim}} --load-time 0.5 --timings --tokens 20 --tokens-per-second 100
    aliases: [fast]
  broken:
    cmd: ${{sim}} --exit-at-start 3
  flood:
    cmd: ${{sim}} --flood 50000000
groups:
  beside: {{swap: false, exclusive: false, members: [flood]}}
"""
HI = [{"role": "user", "content": "hi"}]
NOISE = """\
logToStdout: both
models:
  noise: {{cmd: "sh -c 'seq 1000000000'", checkEndpoint: none, proxy: "http://127.0.0.1:9"}}
"""


class Reading:
    """Reads an answer that does not end, in a greenlet of its own."""

    def __init__(self, server: Running, path: str, **headers: str) -> None:
        self.data = b""
        self.ended = False
        self._link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._link.request("GET", path, headers={"Connection": "close", **headers})
        self.answer = self._link.getresponse()
        self._task = gevent.Greenlet(self._read)
        self._task.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while piece := self.answer.read1(65536):
                self.data += piece
            self.ended = True

    def close(self) -> None:
        self._task.kill()
        self.answer.close()
        self._link.close()


class Listener(Reading):
    """Reads the event stream."""

    def __init__(self, server: Running, query: str = "", **headers: str) -> None:
        super().__init__(server, f"/api/events{query}", **headers)

    @property
    def frames(self) -> list[SseFrame]:
        return SseParser().feed(self.data)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [json.loads(frame.data) for frame in self.frames if frame.event == event]


# --- why was that answer slow? -----------------------------------------------------------------


def test_what_an_answer_waited_for_is_told_the_same_everywhere(start: Any) -> None:
    server = start(CONFIG)
    told = Listener(server, "?format=named")
    first = server.chat("coder", stream=True, sim_tokens=100_000)
    asked = gevent.spawn(server.chat, "fast", stream=True)
    server.wait_for(lambda: server.view("chat")["waiting"])
    waited_s = server.view("chat")["oldest_waiting_for_s"]
    first.close()
    headers, timings = asked.get().headers, list(events(asked.get()))[-1]["timings"]
    record = server.wait_for(lambda: server.records("model=fast"))[0]

    assert record["request_id"] == headers["X-Request-Id"]
    assert record["queue_ms"] >= 1000 * waited_s, "the stream of another model"
    assert record["load_ms"] > 400, "and the load"
    waits = record["queue_ms"] + record["load_ms"]
    assert waits <= record["first_byte_ms"] <= record["first_token_ms"] < record["duration_ms"]
    assert int(headers["X-Queue-Ms"]) == round(record["queue_ms"])
    assert int(headers["X-Load-Ms"]) == round(record["load_ms"])
    assert (record["requested"], record["model_id"]) == ("fast", "chat")
    assert record["output_tokens"] == 20
    speed = timings["predicted_per_second"]
    assert record["tokens_per_second"] == pytest.approx(speed, rel=0.01)
    assert_swap_log_and_events_tell_of(record, server, told)
    told.close()


def assert_swap_log_and_events_tell_of(
    record: dict[str, Any], server: Running, told: Listener
) -> None:
    swap = server.swaps()[-1]
    assert swap["id"] == record["swap_id"]
    assert (swap["target"], swap["evicted"]) == ("chat", ["coder"])
    phases = [phase["name"] for phase in swap["phases"]]
    assert (phases[0], phases[-1]) == ("wait", "load")
    server.wait_output(rf"swap {swap['id']}: start chat for request, done")
    line = server.wait_output(r".*model=fast served=chat queue_ms=.*")[0]
    assert f"request_id={record['request_id']} swap_id={swap['id']}" in line
    metrics = lambda: [m for m in told.of("metrics") if m["requested"] == "fast"]  # noqa: E731
    server.wait_for(metrics)
    (metric,) = metrics()
    assert (metric["queueMs"], metric["swapId"]) == (record["queue_ms"], swap["id"])
    changes = [one for one in told.of("modelStatus") if one["processName"] == "chat"]
    found = [(one["newState"], one["swapId"]) for one in changes]
    assert found == [("starting", swap["id"]), ("ready", swap["id"])]
    assert swap["id"] in [one["id"] for one in told.of("swap")]
    assert told.of("inFlight")


def test_failures_are_records_with_reasons_and_captures(start: Any) -> None:
    server = start(CONFIG)
    assert server.chat("broken").status_code == 502
    assert server.chat("nope").status_code in {400, 404}
    with pytest.raises(requests.Timeout):
        requests.post(
            server.url + "/v1/chat/completions",
            json={"model": "coder", "messages": HI, "sim_tokens": 1000, "sim_tps": 10},
            timeout=0.5,
        )
    records = server.wait_for(lambda: len(found := server.records()) == 3 and found)
    left, unknown, broken = records
    assert (broken["status"], broken["model_id"]) == (502, "broken")
    assert "exit code 3" in broken["reason"]
    assert broken["swap_id"] == server.swaps()[0]["id"]
    assert 0 < broken["load_ms"] <= broken["duration_ms"]
    ids = f"request_id={broken['request_id']} swap_id={broken['swap_id']}"
    server.wait_output(rf"model=broken served=broken queue_ms=.* load_ms=(?!0\.0 ).*{ids}")
    assert unknown["requested"] == "nope"
    assert left["client_left"]
    assert left["status"] == 499
    capture = server.get(f"/api/captures/{broken['id']}").json()
    assert json.loads(base64.b64decode(capture["req_body"]))["model"] == "broken"
    assert "nope" not in server.get("/metrics").text


def test_a_captured_request_can_be_sent_again_from_a_shell(
    server: Running,
) -> None:
    server.chat("coder", text='it\'s "quoted" $HOME `x`', sim_tokens=9)
    record = server.records()[0]
    command = server.get(f"/api/captures/{record['id']}?format=curl").text
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert 'it\'s "quoted" $HOME `x`' in json.loads(done.stdout)["choices"][0]["message"]["content"]


# --- history over restarts ---------------------------------------------------------------------


def test_kill_9_loses_no_more_than_a_second_and_numbers_go_on(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    text = CONFIG + f"store: {{{{path: {file}}}}}\n"
    server = start(text)
    for _ in range(3):
        server.chat("coder")
    server.chat("chat")
    server.wait_for(lambda: stored(file, "activity") == 4 and stored(file, "swaps") == 2)
    server.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(file)) as left:
        assert left.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = start(text)
    assert [record["id"] for record in again.records()] == [3, 2, 1, 0]
    assert [metric["id"] for metric in again.get("/api/metrics").json()] == [0, 1, 2, 3]
    assert [swap["target"] for swap in again.swaps()] == ["coder", "chat"]
    again.chat("coder")
    assert [record["id"] for record in again.records("limit=2")] == [4, 3]
    ids = [swap["id"] for swap in again.swaps()]
    assert ids == sorted(set(ids))
    assert len(ids) == 3
    assert again.records("limit=1")[0]["swap_id"] == ids[-1]


def stored(file: Path, table: str) -> int:
    """How many rows another process could read now."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        return store.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# --- streams that do not end -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "number"),
    [
        ("llmsnap", signal.SIGTERM),
        ("gunicorn", signal.SIGTERM),
        ("gunicorn", signal.SIGINT),
        ("gunicorn without conf", signal.SIGQUIT),
        ("flask", signal.SIGINT),
    ],
)
def test_an_open_tab_works_behind_every_door_and_does_not_hold_up_its_end(
    start: Any, door: str, number: int
) -> None:
    server = start(CONFIG, "--drain-timeout", "600", door=door)
    idle = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    idle.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    listener = Listener(server, "?format=both")
    wire = RawClient(("127.0.0.1", server.port))
    upgrade(wire, "/api/ws?format=named")
    log = Reading(server, "/logs/stream/coder")
    server.chat("coder")
    server.wait_for(lambda: listener.of("metrics"))
    message: dict[str, Any] = {}
    while message.get("event") != "metrics":
        message = json.loads(read_frame(wire)[1])
    assert message["data"]["requested"] == "coder"
    server.wait_for(lambda: log.data)
    server.stop(number)
    if door != "flask":  # the streams come to their proper end
        server.wait_for(lambda: listener.ended and log.ended)
    listener.close()
    wire.close()
    log.close()
    idle.close()


# --- a model that prints too much --------------------------------------------------------------


def test_a_flood_is_bounded_and_said_and_disturbs_nobody(unloaded: Running) -> None:
    server = unloaded
    readers = [Reading(server, "/logs/stream") for _ in range(10)]
    server.chat("flood")
    server.wait_for(lambda: "bytes dropped, beyond 1024 KiB/s" in server.get("/logs").text)
    assert "You said" in text_of(server.chat("coder", stream=True))
    page = server.get("/metrics").text
    assert re.search(r'llmsnap_log_dropped_bytes_total\{model="flood"\} [1-9]', page)
    for reader in readers:
        reader.close()
    server.wait_for(lambda: _resident_mb(server) < 250)
    server.get("/unload")


def _resident_mb(server: Running) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def test_nobody_has_to_read_stdout(tmp_path: Path) -> None:
    with serving(tmp_path, NOISE, door="llmsnap", reads=False) as server:
        assert server.post("/api/models/load/noise").status_code == 200
        lost = r"llmsnap_stdout_dropped_bytes_total [1-9]"
        server.wait_for(lambda: re.search(lost, server.get("/metrics").text))
        assert server.running() == {"noise": "ready"}
        assert server.stop() == 0


# --- logs and metrics as other programs read them ----------------------------------------------


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing: Debian's prometheus")
def test_promtool_accepts_the_page_of_a_busy_server(server: Running) -> None:
    server.chat("coder")
    server.chat("broken")
    server.chat("chat")
    page = server.get("/metrics").content
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
