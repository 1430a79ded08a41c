import os

import pytest

from llmsnap.launchers.local import guardian


@pytest.fixture(autouse=True)
def world(monkeypatch) -> None:
    """Marks of these tests mean nothing to an llmsnap that starts beside them, nor its to them."""
    monkeypatch.setattr(guardian, "_world", os.getpid)
