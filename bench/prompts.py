"""Time to the first token of a conversation's next turn after a swap, with and without promptCache.

llama.cpp from the ``xllamacpp`` wheel serves the demo's model with one thread. In each round every
model reads a conversation of its own, is swapped out for a simulator, and answers the next turn.
The time is that of the request's record without queue and load; restoring is part of the load, and
shown beside it. ``window`` is ``kept`` without --swa-full.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from processes import ROOT, BenchFailed, end_with_us, free_ports

LIMIT_S = 120.0
TEMPLATE = (
    '{% for m in messages %}{% if m.role == "user" %}Question: '
    '{% elif m.role == "assistant" %}Answer: {% endif %}{{ m.content }}\n{% endfor %}Answer:'
)
MODELS = {
    "plain": ("--swa-full", "false"),
    "kept": ("--swa-full", "true"),
    "window": ("", "true"),
}
WORDS = "river stone cloud garden window letter yellow morning " * 25


def config(server: str, model: str, port: int) -> str:
    """Return the configuration of the bench."""
    lines = [f"startPort: {port}", "healthCheckTimeout: 60", "models:"]
    for name, (option, keeps) in MODELS.items():
        command = (
            f"{server} --model '{model}' --port ${{PORT}} --threads 1 --ctx-size 4096 --parallel 1 "
            f"--chat-template '{TEMPLATE}' {option}"
        )
        lines += [f"  {name}:", f"    cmd: {json.dumps(command)}", f"    promptCache: {keeps}"]
    simulator = f"{sys.executable} -m llmsnap.simulator --port ${{PORT}}"
    return "\n".join([*lines, "  other:", f"    cmd: {json.dumps(simulator)}"]) + "\n"


class Client:
    """Asks the server at *port*."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        """Wait until the server answers. Raises: BenchFailed."""
        end = time.monotonic() + LIMIT_S
        while True:
            try:
                self.call("/health")
            except BenchFailed:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def call(self, path: str, body: Any = None) -> bytes:
        """Return the body of an answer. Blocks. Raises: BenchFailed."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                found: bytes = answer.read()
        except OSError as error:
            raise BenchFailed(f"{path}: {error}") from error
        return found

    def chat(self, model: str, messages: list[dict[str, str]]) -> str:
        """Return the answer to a streamed request."""
        body = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0}
        lines = self.call("/v1/chat/completions", {**body, "stream": True}).decode().splitlines()
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        pieces = [event["choices"][0]["delta"] for event in events if event.get("choices")]
        return "".join(piece.get("content") or "" for piece in pieces)

    def last(self) -> dict[str, Any]:
        """Return the record of the last request."""
        time.sleep(0.1)
        record: dict[str, Any] = json.loads(self.call("/api/activity?limit=1"))["records"][0]
        return record

    def restored_ms(self, swap_id: int) -> float:
        """Return how long restoring took in a swap."""
        phases = json.loads(self.call(f"/api/swaps/{swap_id}"))["swap"]["phases"]
        return float(sum(phase["ms"] for phase in phases if phase["name"] == "restore"))


def turn(client: Client, model: str, number: int) -> dict[str, float]:
    """Return the figures of the second turn of a conversation, after a swap."""
    talk = [{"role": "user", "content": f"{model} {number} {time.time()}: {WORDS}"}]
    talk += [{"role": "user", "content": f"More: {WORDS} {WORDS}{WORDS}"}] * 2
    talk.append({"role": "assistant", "content": client.chat(model, talk)})
    client.chat("other", [{"role": "user", "content": "hi"}])
    client.chat(model, [*talk, {"role": "user", "content": "And then?"}])
    record = client.last()
    waited_ms = (record["queue_ms"] or 0.0) + (record["load_ms"] or 0.0)
    return {
        "first_token_s": (record["first_token_ms"] - waited_ms) / 1000,
        "restore_s": client.restored_ms(record["swap_id"]) / 1000,
        "load_s": record["load_ms"] / 1000,
        "tokens": record["input_tokens"] + record["cached_tokens"],
        "cached": record["cached_tokens"],
    }


def main() -> None:
    """Print a line for each turn, and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    script = ROOT / "scripts" / "demo.py"
    said = subprocess.run([sys.executable, script, "env"], capture_output=True, check=True)
    found = json.loads(said.stdout)
    if found["why_simulated"]:
        raise SystemExit(f"no real model: {found['why_simulated']}")
    port = free_ports(6)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_text(config(found["LLMSNAP_DEMO_SERVER"], found["LLMSNAP_DEMO_MODEL"], port + 1))
        command = [sys.executable, "-m", "llmsnap", "--config", str(file), "--state-dir", folder]
        command += ["--listen", f"127.0.0.1:{port}"]
        with (
            Path(folder, "log").open("w") as log,
            subprocess.Popen(
                command,
                stdout=log,
                preexec_fn=end_with_us(),  # noqa: PLW1509 - the runner has one thread
            ) as process,
        ):
            try:
                measure(Client(port), rounds)
            finally:
                process.terminate()
                process.wait()
        lines = Path(folder, "log").read_text().splitlines()
        print("\n".join(line for line in lines if "promptCache is off" in line))


def measure(client: Client, rounds: int) -> None:
    """Run all rounds, interleaved, and print what they give."""
    client.wait()
    results: dict[str, list[dict[str, float]]] = {name: [] for name in MODELS}
    for number in range(rounds):
        for name, found in results.items():
            found.append(turn(client, name, number))
            print(name, {key: round(value, 3) for key, value in found[-1].items()}, flush=True)
    median = {
        name: statistics.median(one["first_token_s"] + one["restore_s"] for one in found)
        for name, found in results.items()
    }
    for name in ("kept", "window"):
        print(f"{name}: {median[name]:.3f} s, {median[name] / median['plain']:.3f} x of plain "
              f"({median['plain']:.2f} s)")  # fmt: skip


if __name__ == "__main__":
    main()
