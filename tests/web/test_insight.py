"""Facts about llmsnap.web.insight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsnap.config import load
from llmsnap.telemetry import ProcessStateChanged
from tests.web.serving import Site, site

CONFIG = """
startPort: 17000
logToStdout: none
models:
  alpha:
    cmd: serve --port ${PORT} --api-key hunter2hunter2
    aliases: [first]
    ttl: 60
  beta:
    cmd: serve --port ${PORT}
groups:
  pair:
    swap: false
    members: [alpha]
"""
KEYS = """
apiKeys:
  - {key: admin-key-0123456789, name: admin, admin: true}
  - {key: beta-key-0123456789, name: guest, models: [beta], admin: false}
"""


@pytest.fixture
def world() -> Iterator[Site]:
    with site(CONFIG) as made:
        yield made


def test_the_overview_tells_how_every_model_fares(world: Site) -> None:
    found = world.client.get("/api/overview").get_json()
    alpha, beta = found["models"]
    assert (alpha["model_id"], alpha["state"], alpha["in_flight"]) == ("alpha", "stopped", 0)
    assert alpha["aliases"] == ["first"]
    assert alpha["ttl_s"] == 60
    assert alpha["durations"]["start"] == {"count": 0, "last_s": None, "p50_s": None, "p90_s": None}
    assert "hunter2" not in alpha["cmd"]
    assert beta["model_id"] == "beta"


def test_the_overview_tells_the_groups(world: Site) -> None:
    groups = {each["id"]: each for each in world.client.get("/api/overview").get_json()["groups"]}
    assert groups["pair"]["members"] == ["alpha"]
    assert groups["pair"]["swap"] is False
    assert groups["(default)"]["members"] == ["beta"]


@pytest.mark.parametrize("path", ["overview", "timeline", "config/file", "config/plan"])
def test_it_takes_an_admin_key(path: str) -> None:
    with site(CONFIG + KEYS) as made:
        status = {
            key: made.client.get(f"/api/{path}", headers={"X-Api-Key": key}).status_code
            for key in ("", "beta-key-0123456789", "admin-key-0123456789")
        }
        assert list(status.values()) == [401, 403, 200]


def test_the_timeline_begins_with_what_is_and_goes_on_with_what_happens(world: Site) -> None:
    assert [bar["state"] for bar in timeline(world)] == ["stopped"]
    world.service.bus.publish(ProcessStateChanged("alpha", "stopped", "starting"))
    first, second = timeline(world)
    assert first["to_ms"] == second["from_ms"]
    assert (second["state"], second["to_ms"]) == ("starting", None)


def test_what_happened_before_the_first_look_is_on_the_timeline(world: Site) -> None:
    for old, new in (("stopped", "starting"), ("starting", "ready")):
        world.service.bus.publish(ProcessStateChanged("alpha", old, new))
    assert [bar["state"] for bar in timeline(world)] == ["stopped", "starting", "ready"]


def timeline(world: Site) -> list[dict[str, object]]:
    found: list[dict[str, object]] = world.client.get("/api/timeline").get_json()["states"]["alpha"]
    return found


def test_a_configuration_without_a_file(world: Site) -> None:
    assert world.client.get("/api/config/file").get_json()["text"] == ""
    assert world.client.get("/api/config/plan").get_json()["changes"] is None


@pytest.fixture
def file(world: Site, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    world.service.runtime.config = load(path, environ={})
    return path


def test_the_file_is_shown_without_secrets(world: Site, file: Path) -> None:
    found = world.client.get("/api/config/file").get_json()
    assert found["source"] == str(file)
    assert "aliases: [first]" in found["text"]
    assert "hunter2" not in found["text"]


def test_a_file_that_is_gone_is_said(world: Site, file: Path) -> None:
    file.unlink()
    assert "No such file" in world.client.get("/api/config/file").get_json()["reason"]


def test_the_plan_tells_what_a_reload_would_touch(world: Site, file: Path) -> None:
    file.write_text(CONFIG.replace("ttl: 60", "ttl: 61").replace("  beta:", "  gamma:"))
    changes = world.client.get("/api/config/plan").get_json()["changes"]
    assert (changes["hot"], changes["added"], changes["removed"]) == (
        ["alpha"],
        ["gamma"],
        ["beta"],
    )


def test_the_plan_tells_every_problem_with_its_line(world: Site, file: Path) -> None:
    file.write_text(CONFIG.replace("ttl: 60", "ttl: soon"))
    found = world.client.get("/api/config/plan").get_json()
    assert found["changes"] is None
    assert [(each["line"], each["where"]) for each in found["errors"]] == [(8, "models.alpha.ttl")]
