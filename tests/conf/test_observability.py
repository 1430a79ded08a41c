"""Alerts and dashboard ask only for what the server exposes; the document names all of it."""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from llmsnap.telemetry import (
    ActivityRecord,
    ConfigReload,
    MemoryChanged,
    ModelPreloaded,
    ProcessStateChanged,
    ProfileChanged,
    ReloadPhase,
    SwapStarted,
    activity_object,
)
from llmsnap.web.accesslog import AccessEntry
from llmsnap.web.events import Form
from tests.fakes.calls import observed
from tests.telemetry.test_prometheus import busy
from tests.web.watched import World

CONF = Path(__file__).parent.parent.parent / "conf"
ALERTS = CONF / "prometheus-alerts.yml"
DASHBOARD = CONF / "grafana-dashboard.json"
NAME = re.compile(r"\b(?:llmsnap|process)_[a-z0-9_]+")
SELECTOR = re.compile(r"\b((?:llmsnap|process)_[a-z0-9_]+)\{([^}]*)\}")
ADDED = {"instance", "job", "le"}
"""Labels that come from Prometheus, and that of buckets."""


@functools.cache
def exposed() -> dict[str, set[str]]:
    """Every name on the page of a busy server, with its labels."""
    metrics, gauges = busy()
    page, _ = metrics.render(gauges)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        yield variable["query"]


def test_it_asks_for_names_and_labels_that_there_are() -> None:
    known = exposed()
    for expression in expressions():
        names = NAME.findall(expression)
        assert set(names) <= set(known) | {"process_start_time_seconds"}
        for name, selector in SELECTOR.findall(expression):
            labels = set(re.findall(r"(\w+)\s*=~?|(\w+)\s*!=", selector))
            asked = {label for pair in labels for label in pair if label}
            assert asked <= known.get(name, set()) | ADDED, expression
        labels = set().union(*(known.get(name, set()) for name in names)) | ADDED
        for grouping in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression):
            asked = {label.strip() for label in grouping.split(",") if label.strip()}
            assert asked <= labels, expression


def test_texts_fill_in_labels_that_there_are() -> None:
    labels = set().union(*exposed().values()) | ADDED
    texts = [text for rule in alerts() for text in rule["annotations"].values()]
    filled = {name for text in texts for name in re.findall(r"\$labels\.(\w+)", text)}
    legends = [target.get("legendFormat", "") for one in panels() for target in one["targets"]]
    filled |= {name for text in legends for name in re.findall(r"\{\{\s*(\w+)\s*\}\}", text)}
    assert filled
    assert filled <= labels


def test_the_dashboard_shows_everything_that_is_exposed_once_and_alerts_say_how_bad_it_is() -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    of_histograms = re.compile(r"_(count|sum|created)$")
    ours = {name for name in exposed() if name.startswith("llmsnap_")}
    assert {name for name in ours if not of_histograms.search(name)} <= asked
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for rule in alerts():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"]["summary"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing: Debian's prometheus")
def test_promtool_accepts_the_rules_and_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(asked)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    for checks, count in ((ALERTS, len(alerts())), (file, len(rules))):
        checked = subprocess.run(
            ["promtool", "check", "rules", checks], capture_output=True, check=False, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert f"SUCCESS: {count} rules found" in checked.stdout


# --- the document ------------------------------------------------------------------------------

PAGE = (CONF.parent / "docs" / "observability.md").read_text()


def test_the_document_names_every_metric_with_its_labels() -> None:
    of_histograms = re.compile(r"_(bucket|count|sum|created)$")
    rows = [line for line in PAGE.splitlines() if line.startswith("| `llmsnap_")]
    shown = {}
    for row in rows:
        _, names, labels, *_ = row.split("|")
        for name in NAME.findall(names):
            shown[name] = set(re.findall(r"`(\w+)`", labels))
    there = {
        of_histograms.sub("", name): labels - {"le"}
        for name, labels in exposed().items()
        if name.startswith("llmsnap_")
    }
    assert shown == there


def test_the_document_names_every_field_of_a_record() -> None:
    (table,) = re.findall(r"\| field \| \|\n(?:\|.*\n)+", PAGE)
    names = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row)}
    shown = set(activity_object(ActivityRecord(id=0)))
    assert names == shown | {"reason", "peer"}


def test_the_document_names_every_event_with_its_fields() -> None:
    (table,) = re.findall(r"\| event \| data \|\n(?:\|.*\n)+", PAGE)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    happens = [
        ProcessStateChanged("alpha", "stopped", "ready"),
        SwapStarted(swap_id=1, target="alpha"),
        ModelPreloaded("alpha", success=True),
        ConfigReload(ReloadPhase.END),
        ProfileChanged("work"),
        MemoryChanged(),
    ]
    world = World()
    feed = world.feed(Form.NAMED)
    world.service.logs.proxy.write(b"x\n")
    world.record()
    world.swap()
    observer = world.begin()
    world.broadcast._in_flight_due = 0.0
    world.publish(*happens)
    frames = {frame.event: json.loads(frame.data) for frame in feed.wait(0)}
    world.close()
    observer.finish()
    assert set(frames) == set(rows)
    for event in set(frames) - {"metrics", "swap"}:
        assert set(frames[event]) <= set(re.findall(r"`(\w+)`", rows[event]))


def test_the_document_names_every_field_of_the_access_log() -> None:
    (table,) = re.findall(r"\| text \| JSON \| \|\n(?:\|.*\n)+", PAGE)
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert names == {*AccessEntry(observed(), 0, 0.0).fields(), "request_id", "swap_id"}
