"""The clusters that tests use: played ones, or real ones where a variable wants them."""

import atexit
import os
from functools import cache
from typing import Any

from tests.launchers.fake_ray import FakeRay
from tests.launchers.fake_slurm import FakeSlurm
from tests.launchers.real_ray import RealRay
from tests.launchers.real_slurm import RealSlurm

CLUSTERS: dict[str, tuple[str, Any, Any]] = {
    "ray": ("LLMSNAP_RAY", RealRay, FakeRay),
    "slurm": ("LLMSNAP_SLURM", RealSlurm, FakeSlurm),
}
REAL = [kind for kind, (variable, *_) in CLUSTERS.items() if variable in os.environ]


@cache
def _real(kind: str) -> Any:
    cluster = CLUSTERS[kind][1]()
    atexit.register(cluster.shut_down)
    return cluster


def boot() -> None:
    """Start the real clusters that are wanted."""
    for kind in REAL:
        _real(kind)


def cluster_of(kind: str) -> Any:
    """A cluster for one test: the real one if that is wanted."""
    return _real(kind) if kind in REAL else CLUSTERS[kind][2]()
