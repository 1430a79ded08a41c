"""A memory budget with real processes on two pretend cards, each of which refuses what is too much.

A card is a folder with one file per process, named by its pid and start, that holds the size it
takes. A pid alone may be that of another process by now.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from tests.e2e.api import serving
from tests.e2e.harness import Running

CARD = """\
import fcntl, os, sys
from pathlib import Path

def started(pid):
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""

folder, size, *command = sys.argv[1:]
card = Path(folder, os.environ["CUDA_VISIBLE_DEVICES"])
card.mkdir(exist_ok=True)
with open(Path(folder, "lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    held = {each: int(each.read_text()) for each in card.iterdir()}
    for each in [each for each in held if started(each.stem) != each.suffix[1:]]:
        each.unlink()
        del held[each]
    if sum(held.values()) + int(size) > 16:
        print("CUDA error: out of memory", held, flush=True)
        sys.exit(1)
    Path(card, f"{os.getpid()}.{started(os.getpid())}").write_text(size)
os.execv(command[0], command)
"""
SIZES = (2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 12, 16)

CONFIG = """\
startPort: {port}
memory: {{gpu0: 16GiB, gpu1: 16GiB}}
models:
  huge: {{cmd: "true ${{PORT}}", memory: {{any: 17GiB}}}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    script = tmp_path / "card.py"
    script.write_text(CARD)
    models = "".join(
        f"  m{number}: {{{{cmd: '{sys.executable} {script} {tmp_path} {size} {{sim}}', "
        f"memory: {{{{any: {size}GiB}}}}}}}}\n"
        for number, size in enumerate(SIZES)
    )
    with serving(tmp_path, CONFIG + models) as running:
        yield running


@pytest.mark.e2e(limit_s=120)
def test_two_cards_are_never_overbooked_and_no_model_leaves_without_need(server: Running) -> None:
    def client(number: int) -> list[str]:
        chance = random.Random(number)
        models = [f"m{chance.randrange(len(SIZES))}" for _ in range(5)]
        answers = [server.chat(model) for model in models]
        return [each.text for each in answers if each.status_code != 200]

    tasks = [gevent.spawn(client, number) for number in range(30)]
    gevent.joinall(tasks, raise_error=True)
    assert [text for task in tasks for text in task.value] == []  # none ran out of memory
    refused = server.chat("huge")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_does_not_fit")
    assert refused.headers["x-should-retry"] == "false"
    server.get("/unload")
    together = ("m10", "m6", "m7", "m4")  # 12 + 3 on one card, 8 + 6 on the other
    for model in together:
        assert server.chat(model).status_code == 200
    assert set(server.running()) == set(together)
    assert server.chat("m5").status_code == 200  # 7: one of them is enough
    assert len(server.running()) == 4
