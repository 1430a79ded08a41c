"""Pretend cards: the file of devices that simulators report to; ``LLMSNAP_DEVICES`` names it."""

import fcntl
import json
import os
import signal
from pathlib import Path

import pytest

from llmsnap.memory.processes import started

GIB = 1024**3


class Card:
    """The file at *path*, with some cards of 16 GiB."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, count: int = 1) -> None:
        self.path = path
        path.write_text(
            json.dumps({f"gpu{number}": {"capacity": 16 * GIB} for number in range(count)})
        )
        patch.setenv("LLMSNAP_DEVICES", f"file:{path}")

    def take(self, gib: int) -> None:
        """Have this process hold *gib* of gpu0, as a program that llmsnap did not start."""
        with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = json.loads(self.path.read_text())
            me = f"{os.getpid()}.{started(os.getpid())}"
            document["gpu0"].setdefault("used", {})[me] = gib * GIB
            new = self.path.with_name("taken")
            new.write_text(json.dumps(document))
            new.replace(self.path)

    def kill_holders(self) -> None:
        """End the processes that models left their memory to."""
        for process in json.loads(self.path.read_text())["gpu0"].get("used", {}):
            pid = int(process.partition(".")[0])
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"time.sleep" in command.read_bytes():
                os.kill(pid, signal.SIGKILL)
