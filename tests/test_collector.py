"""Facts about llmsnap.collector, each in a Python of its own."""

import subprocess
import sys

SPARED = """
import gc
from llmsnap import collector
kept = [[] for _ in range(1000)]
collector.spare_what_stays()
print(gc.get_freeze_count() > 1000, gc.get_threshold() == collector.THRESHOLDS, gc.isenabled())
"""

CIRCLE = """
import gc, weakref
from llmsnap import collector
class Node: pass
collector.spare_what_stays()
node = Node(); node.itself = node
gone = weakref.ref(node); del node
gc.collect()
print(gone() is None)
"""


def told(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_what_exists_is_not_looked_at_again_and_the_rest_less_often() -> None:
    assert told(SPARED) == "True True True"


def test_circles_made_later_are_still_found() -> None:
    assert told(CIRCLE) == "True"
