"""Which children run, in a file: how the next start finds them on systems without /proc."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from gevent import subprocess

from llmsnap.upstream import orphans

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FILE_NAME = "children.json"


def start_time(pid: int) -> str:
    """When process *pid* began, as ps(1) tells it (POSIX ``lstart``); "" when it is gone."""
    asked = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return str(asked.stdout.decode(errors="replace")).strip()


class Roster:
    """The file in *folder*. A pid alone may have been given to another program meanwhile, so the
    start time has to match as well.
    """

    def __init__(self, folder: Path, started: Callable[[int], str] = start_time) -> None:
        self.path = folder / FILE_NAME
        self._started = started
        self._children: dict[int, tuple[str, str]] = {}

    def __repr__(self) -> str:
        return f"<Roster {self.path}, {len(self._children)} children>"

    def add(self, pid: int, model_id: str) -> None:
        """Note a child that was just started. Blocks briefly."""
        self._children[pid] = model_id, self._started(pid)
        self._write()

    def remove(self, pid: int) -> None:
        """Note that nothing is left of a child. Never switches."""
        if self._children.pop(pid, None) is not None:
            self._write()

    def stop_leftovers(self) -> list[str]:
        """Stop the groups of noted children that still run; return a line about each. Blocks."""
        lines = []
        for pid, (model_id, started) in self._read().items():
            if started and self._started(pid) == started:
                orphans.signal_group(pid, signal.SIGTERM)
                if not orphans.wait_empty(pid, [], orphans.TERM_GRACE_S):
                    orphans.signal_group(pid, signal.SIGKILL)
                lines.append(f"pid {pid} of model {model_id}")
        return lines

    def _read(self) -> dict[int, tuple[str, str]]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            return {one["pid"]: (one["model"], one["started"]) for one in document["children"]}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be used: %s", self.path, error)
            return {}

    def _write(self) -> None:
        children = [
            {"pid": pid, "model": model_id, "started": started}
            for pid, (model_id, started) in self._children.items()
        ]
        text = json.dumps({"schema_version": SCHEMA_VERSION, "children": children})
        new = self.path.with_suffix(".new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(self.path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error)
