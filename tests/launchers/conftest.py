import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmsnap.launchers.cluster import job, launcher
from llmsnap.launchers.local import guardian
from tests.launchers import LIMIT_S
from tests.launchers.clusters import REAL
from tests.launchers.fake_ray import FakeRay
from tests.launchers.farm import Farm


@pytest.fixture
def limit_s() -> float:
    """Of tests that start processes."""
    return 2 * LIMIT_S


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch) -> None:
    """Pretended clusters are looked at more often than real ones need."""
    if REAL:
        return
    monkeypatch.setattr(job, "CALM_S", 0.05)
    monkeypatch.setattr(job, "SUSPECT_S", 0.1)
    for name, seconds in (("SWEEP_S", 0.05), ("LAST_WORD_S", 0.1)):
        monkeypatch.setattr(launcher, name, seconds)


@pytest.fixture(autouse=True)
def world(monkeypatch) -> None:
    """Marks of these tests mean nothing to an llmsnap that starts beside them, nor its to them."""
    monkeypatch.setattr(guardian, "_world", os.getpid)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    farms: list[Farm] = []

    def build(cluster: FakeRay | None = None, folder: Path = tmp_path, **settings: Any) -> Farm:
        farms.append(Farm(folder, cluster or FakeRay(), **settings))
        return farms[-1]

    yield build
    for each in farms:
        each.close()
