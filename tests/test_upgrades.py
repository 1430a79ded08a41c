"""What an earlier release wrote opens under this one; what a later one wrote is refused."""

import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from llmsnap.config import load_with_advice
from llmsnap.launchers import PidFile
from llmsnap.statedir import StateDir
from llmsnap.telemetry import Filter, Order
from llmsnap.telemetry.store import SCHEMA_VERSION, Database, NewerSchema

RELEASES = sorted(path for path in (Path(__file__).parent / "upgrades").iterdir() if path.is_dir())
ENVIRON = {
    "UPGRADE_FOLDER": "/tmp",
    "LLMSNAP_DEMO_SERVER": "llama-server",
    "LLMSNAP_DEMO_MODEL": "m.gguf",
}


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what one release left behind."""
    return Path(shutil.copytree(request.param, tmp_path / "release"))


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "example.yaml"])
def test_its_configurations_load(release: Path, name: str) -> None:
    loaded = load_with_advice(release / name, environ=ENVIRON)
    assert loaded.advice == ()
    assert loaded.config.models


def test_its_store_is_read_and_continued(release: Path) -> None:
    with sqlite3.connect(release / "store.db") as raw:
        last_id, last_swap = (
            raw.execute("SELECT last FROM numbers WHERE name = ?", [name]).fetchone()[0]
            for name in ("record", "swap")
        )
    raw.close()
    db = Database(str(release / "store.db"))
    page = db.page(Filter(), Order(), None, 100)
    swaps = db.swaps(100)
    numbers = db.next_id(), db.next_swap_id()
    db.close()
    assert [record.model_id for record in page.records] == [
        *("missing", "alpha", "beta", "alpha", "alpha")
    ]
    assert {swap["target"] for swap in swaps} == {"alpha", "beta"}
    assert numbers == (last_id + 1, last_swap + 1)


def test_its_state_directory_is_taken_over(release: Path) -> None:
    state = StateDir(release / "state")
    state.lock()  # held by a process that has gone
    state.unlock()
    assert PidFile(state.path, started=lambda _: "").stop_leftovers() == []


def test_a_newer_store_is_refused_and_stays_as_it_is(release: Path) -> None:
    path = release / "store.db"
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(NewerSchema, match=rf"newer llmsnap.*schema version {SCHEMA_VERSION + 1}"):
        Database(str(path))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
