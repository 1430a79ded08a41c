from gevent import subprocess

from tests.e2e.harness import ROOT, sys

PROGRAM = """
import llmsnap._monkey, time, gevent
from llmsnap.blocked import watch_loop
watch_loop(0.05)
def block():
    end = time.perf_counter() + 0.4
    while time.perf_counter() < end:
        pass
gevent.spawn(block).join()
"""


def test_whatever_blocks_the_loop_is_shown_with_its_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stderr=subprocess.PIPE, check=True
    )
    assert b"in block" in done.stderr
    assert b"the event loop was blocked for 50 ms in" in done.stderr
