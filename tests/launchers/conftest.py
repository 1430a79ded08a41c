import os

import pytest

from llmsnap.launchers.cluster import job, launcher
from llmsnap.launchers.local import guardian
from tests.launchers import LIMIT_S
from tests.launchers.real_ray import is_real as is_real_ray
from tests.launchers.real_slurm import is_real as is_real_slurm


@pytest.fixture
def limit_s() -> float:
    """Of tests that start processes."""
    return 2 * LIMIT_S


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch) -> None:
    """Pretended clusters are looked at more often than real ones need."""
    if is_real_ray() or is_real_slurm():
        return
    monkeypatch.setattr(job, "CALM_S", 0.1)
    monkeypatch.setattr(job, "SUSPECT_S", 0.3)
    for name, seconds in (("PLACING_S", 0.05), ("SWEEP_S", 0.05), ("LAST_WORD_S", 0.1)):
        monkeypatch.setattr(launcher, name, seconds)


@pytest.fixture(autouse=True)
def world(monkeypatch) -> None:
    """Marks of these tests mean nothing to an llmsnap that starts beside them, nor its to them."""
    monkeypatch.setattr(guardian, "_world", os.getpid)
