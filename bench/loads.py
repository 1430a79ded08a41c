"""One load on one port for a time, by wrk or by bench/client.py; figures have the same names."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from client import OPEN
from processes import ROOT, BenchFailed, cpu_s, end_with_us, signals_held

HERE = Path(__file__).parent
CLIENT = [sys.executable, "-S", "-E", str(HERE / "client.py")]
PATH = "/v1/chat/completions"
LIMIT_S = 60.0
"""Seconds that a client may exceed its given duration."""
SPREAD = 4
"""Intervals within which the streams of a load that is held begin, to stay apart from then on."""
OPENING = SPREAD + 4
"""Tokens that the first stream of a load has had, at most, when the last is open."""
SAMPLE_S = 0.25

Figures = dict[str, float | str]
Sample = Callable[[], tuple[float, float]]
"""What a server has used so far: seconds of CPU, and bytes that it holds."""

WRK = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{{"model":"m","stream":false,"messages":[{{"role":"user","content":"hi' ..
  string.rep("p", {body_bytes}) .. '"}}]}}'
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"errors":%d,"took_us":%d,"latency_p50_us":%f,"latency_p99_us":%f}}\\n',
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What clients do. A stream without an interval has no pauses, *batch* tokens in a write."""

    connections: int
    body_bytes: int = 0
    interval_ms: int = 0
    chunks: int = 0
    batch: int = 1
    spread: bool = False

    def run(self, port: int, seconds: float, folder: Path) -> Figures:
        """Return the figures. Blocks. Raises: BenchFailed."""
        # wrk only knows whole seconds.
        if not self.chunks and seconds >= 1 and shutil.which("wrk"):
            return self._by_wrk(port, seconds, folder)
        return self._by_client(port, seconds)

    def _by_wrk(self, port: int, seconds: float, folder: Path) -> Figures:
        script = folder / "wrk.lua"
        script.write_text(WRK.format(body_bytes=self.body_bytes))
        argv = ["wrk", "-t1", f"-c{self.connections}", f"-d{round(seconds)}s", "-s", str(script)]
        used = _children_cpu_s()
        found: Figures = _output([*argv, f"http://127.0.0.1:{port}{PATH}"], seconds)
        found["took_s"] = took_s = float(found.pop("took_us")) / 1e6
        found["requests_per_s"] = float(found["requests"]) / took_s
        found["client"] = "wrk"
        found["client_cpu"] = (_children_cpu_s() - used) / took_s
        return found

    def hold(self, port: int, seconds: float, sample: Sample) -> Figures:
        """Hold one stream open on each connection, and watch for *seconds* once all are open.

        Blocks. Raises: BenchFailed.
        """
        chunks = round(seconds * 1000 / self.interval_ms) + OPENING
        argv = [*self._client(port, seconds), "--stream", "--chunks", str(chunks)]
        argv += ["--interval-ms", str(self.interval_ms), "--spread", str(SPREAD), "--tell-open"]
        with _started(argv) as process:
            first = process.stdout.readline() if process.stdout else ""
            if first.strip() != OPEN:
                return _result(process, seconds, first)
            watched = _watch(process, seconds, sample)
            return _result(process, OPENING * self.interval_ms / 1000) | watched

    def _client(self, port: int, seconds: float) -> list[str]:
        argv = [*CLIENT, "--port", str(port), "--path", PATH, "--seconds", str(seconds)]
        argv += ["--connections", str(self.connections), "--body-bytes", str(self.body_bytes)]
        return argv

    def _by_client(self, port: int, seconds: float) -> Figures:
        argv = self._client(port, seconds)
        if self.chunks:
            chunks = self.chunks
            if self.interval_ms:  # a stream should not take much longer than the measurement
                chunks = max(2, min(chunks, round(seconds * 1000 / self.interval_ms)))
            argv += ["--stream", "--chunks", str(chunks), "--batch", str(self.batch)]
            argv += ["--interval-ms", str(self.interval_ms)]
        if self.spread:
            argv += ["--spread", "1"]
        return _output(argv, seconds)


def _output(argv: list[str], seconds: float) -> Figures:
    """Return the JSON in the last line that a command prints."""
    with _started(argv) as process:
        return _result(process, seconds)


@contextmanager
def _started(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield the process of a client, which ends with the block."""
    with ExitStack() as stack:
        with signals_held():
            process = subprocess.Popen(
                argv,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=end_with_us(),  # noqa: PLW1509 - the runner has one thread
            )
            stack.enter_context(process)
            stack.callback(process.kill)
        yield process


def _result(process: subprocess.Popen[str], seconds: float, before: str = "") -> Figures:
    """Return the figures that a client prints at its end; *before* was read already."""
    try:
        output, errors = process.communicate(timeout=seconds + LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise BenchFailed(f"{process.args!r} does not end") from error
    if process.returncode:
        raise BenchFailed(f"{process.args!r} failed: {errors or output}")
    found: Figures = json.loads((before + output).strip().splitlines()[-1])
    return found


def _watch(process: subprocess.Popen[str], seconds: float, sample: Sample) -> Figures:
    """Return the resources that server and client use in *seconds* from now. Blocks."""
    began, (used, most_bytes), client_used = time.monotonic(), sample(), cpu_s([process.pid])
    now_used = used
    while (left_s := began + seconds - time.monotonic()) > 0:
        time.sleep(min(SAMPLE_S, left_s))
        now_used, now_bytes = sample()
        most_bytes = max(most_bytes, now_bytes)
    took_s = time.monotonic() - began
    return {
        "most_bytes": most_bytes,
        "target_cpu": (now_used - used) / took_s,
        "client_cpu": (cpu_s([process.pid]) - client_used) / took_s,
    }


def _children_cpu_s() -> float:
    """Return the CPU time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
