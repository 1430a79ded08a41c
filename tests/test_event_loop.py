from gevent import subprocess

from tests.e2e.harness import ROOT, sys

PROGRAM = """
import io, sys, time, gevent
from llmsnap.event_loop import watch_loop
sys.stderr = said = io.StringIO()
watch_loop(0.02)
def block():
    end = time.perf_counter() + 4
    while "in block" not in said.getvalue() and time.perf_counter() < end:
        pass
gevent.spawn(block).join()
print(said.getvalue())
"""


def test_whatever_blocks_the_loop_is_shown_with_its_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    assert b"in block" in done.stdout
    assert b"the event loop was blocked for 20 ms in" in done.stdout
