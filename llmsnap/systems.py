"""Which systems llmsnap runs on, and what it has to do without on some of them."""

from __future__ import annotations

import sys


def refusal(platform: str = sys.platform) -> str:
    """Return why llmsnap does not run on *platform*; empty where it does."""
    if platform in {"win32", "cygwin", "msys"}:
        return (
            "llmsnap does not run on Windows, which lacks the process groups and file locks it "
            "relies on: run it in WSL 2, in a container or on another machine"
        )
    return ""


def shortcomings(platform: str = sys.platform) -> str:
    """Return what does not work on *platform* as it does on Linux; empty for Linux."""
    if platform == "linux":
        return ""
    return (
        f"this system ({platform}) has no inotify, parent-death signal or /proc: a changed "
        "configuration is noticed within 2 s, and when llmsnap is killed, processes that have left "
        "the process group of their model run on"
    )
