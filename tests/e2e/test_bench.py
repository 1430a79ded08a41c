"""The benchmark runs from end to end; speed is not asserted."""

import contextlib
import json
import shutil
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree

import gevent
import psutil
import pytest
from gevent import subprocess

from tests.e2e.harness import ROOT

pytestmark = pytest.mark.e2e

EVERYWHERE = [
    "bodies", "idle", "memory", "start", "streams200", "streams2000", "streams32", "unary1",
    "unary32", "unpaced16",
]  # fmt: skip
WITH_MODELS = ["models1000", "swap", "wake"]
STANDING = ["waiters", "subscribers", "streams"]
"""What others have to hold open while requests are measured."""
STOP_LIMIT_S = 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the benchmark puts its files; in the environment all its processes are known by it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def left(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != "zombie" and process.environ().get("TMPDIR") == str(folder):
                found.append(process)
    return found


def begin(*args: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "bench/run.py"), "--rounds", "1", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def bench(*args: str) -> str:
    process = begin(*args)
    try:
        output, errors = process.communicate()
    finally:
        process.terminate()
    assert process.returncode == 0, errors
    return output


def test_every_workload_runs(folder: Path) -> None:
    options = ("--secs", "0.1", "--targets", "direct,llmsnap")
    output = bench(*options, "--json", str(folder / "figures.json"))
    found = json.loads((folder / "figures.json").read_text())
    measured = {name: sorted(rounds) for name, rounds in found["measured"].items()}
    assert measured == {
        **{name: ["direct", "llmsnap"] for name in EVERYWHERE},
        **{name: ["llmsnap"] for name in WITH_MODELS},
    }
    assert found["medians"]["streams200"]["llmsnap"]["requests"] >= 200
    assert found["medians"]["streams2000"]["llmsnap"]["stream_bytes"] > 0
    assert found["medians"]["idle"]["llmsnap"]["rss_bytes"] > 2**20
    assert found["medians"]["models1000"]["llmsnap"]["cpu_ratio"] > 0
    assert "latency_p50_us/direct" in found["ratios"]["unary1"]["llmsnap"]
    assert "time to first /health" in output
    assert not left(folder)


def test_every_target_is_measured(folder: Path) -> None:
    bench("--secs", "0.1", "--only", "unary1,wake", "--json", str(folder / "figures.json"))
    measured = json.loads((folder / "figures.json").read_text())["measured"]
    targets = {"bare", "direct", "gunicorn", "llmsnap"}
    if shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/bin"):
        targets.add("nginx")
    if any((ROOT / "build/compiled").glob("llmsnap__mypyc*")):
        targets.add("compiled")
    assert set(measured["unary1"]) == targets
    assert set(measured["wake"]) == targets - {"bare", "direct", "nginx"}
    assert not left(folder)


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_wrk_is_used_where_it_is_installed(folder: Path) -> None:
    file = folder / "figures.json"
    bench("--secs", "1", "--targets", "direct", "--only", "unary1,bodies", "--json", str(file))
    measured = json.loads(file.read_text())["measured"]
    assert {measured[name]["direct"][0]["client"] for name in ("unary1", "bodies")} == {"wrk"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_stopped(folder: Path, number: signal.Signals) -> None:
    process = begin("--secs", "30", "--targets", "bare,llmsnap", "--only", "unary1")
    for line in process.stderr:
        if line.startswith("round 1"):
            break
    assert len(left(folder)) >= 4, "runner, upstream, bare, llmsnap"
    process.send_signal(number)
    process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == {2: 130, 15: 143, 9: -9}[number]
    with gevent.Timeout(STOP_LIMIT_S):
        while left(folder):
            gevent.sleep(0.05)


def test_the_other_measurements_of_the_hot_path_run(folder: Path) -> None:
    found = {}
    for name, *options in (
        ["micro"],
        ["growth", "--only", ",".join(STANDING), "--sizes", "2", "--svg", str(folder / "a.svg")],
    ):
        file = folder / f"{name}.json"
        script = str(ROOT / f"bench/{name}.py")
        command = [sys.executable, script, "--batches", "1", "--json", str(file), *options]
        subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found[name] = json.loads(file.read_text())
    assert found["micro"]["upstream client"].keys() >= {"request", "chunk"}
    assert {axis: list(sizes) for axis, sizes in found["growth"]["cpu_us"].items()} == {
        axis: ["2"] for axis in STANDING
    }
    picture = ElementTree.parse(folder / "a.svg").getroot()
    assert len(picture.findall(".//{*}polyline")) == len(STANDING)
    assert not left(folder)
