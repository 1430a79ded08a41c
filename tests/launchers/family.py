"""A server with five kinds of children, all of which ignore SIGTERM; for the tests of the runner.

With ``exit`` it ends by itself with 3 once all run.
"""

import os
import signal
import sys
import time

KINDS = ("plain", "session", "orphan", "orphan session", "stopped")


def stop(*_: object) -> None:
    os.write(1, b"asked to stop\n")


signal.signal(signal.SIGTERM, stop)
reader, writer = os.pipe()


def child(kind: str) -> None:
    """Start a child: with a session of its own, without its parent, or stopped."""
    if os.fork():
        return
    if "session" in kind:
        os.setsid()
    if "orphan" in kind and os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, f"child {os.getpid()} {kind}\n".encode())
    os.write(writer, b".")
    if kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)
    os._exit(0)


for each in KINDS:
    child(each)
ready = 0
while ready < len(KINDS):
    ready += len(os.read(reader, 10))
os.write(1, b"ready\n")
if sys.argv[1:] == ["exit"]:
    os._exit(3)
while True:
    time.sleep(600)
