"""Facts about llmsnap.web.listing and the views that show it."""

import pytest

from tests.web.serving import site

TEXT = """\
includeAliasesInList: true
apiKeys:
  - all
  - {key: some, models: ["z*", first], admin: false}
  - {key: root, models: [zeta], admin: true}
models:
  zeta: {cmd: "x --api-key s3cret", proxy: "http://me:pw@localhost:1", ttl: 60}
  alpha:
    cmd: x
    proxy: "http://localhost:1"
    aliases: [first, " blank "]
    name: " Alpha "
    metadata: {size: 8}
  hidden: {cmd: x, proxy: "http://localhost:1", unlisted: true}
  bare: {cmd: x, proxy: "http://localhost:1", name: " ", description: " "}
peers:
  box2: {proxy: "http://box2", models: [remote, alpha, hidden, first]}
  box3: {proxy: "http://box3", models: [remote]}
"""
ALL = {"x-api-key": "all"}


@pytest.fixture(scope="module")
def here():
    with site(TEXT) as made:
        yield made


def names(here, key: str = "all") -> list[str]:
    answer = here.client.get("/v1/models", headers={"x-api-key": key})
    return [record["id"] for record in answer.json["data"]]


def test_each_name_is_listed_once_in_order(here) -> None:
    assert names(here) == ["alpha", "bare", "blank", "first", "remote", "zeta"]


def test_a_key_sees_what_it_may_use_by_name_or_id(here) -> None:
    assert names(here, "some") == ["first", "zeta"]


def test_what_is_blank_is_left_out(here) -> None:
    data = here.client.get("/v1/models", headers=ALL).json["data"]
    records = {record["id"]: record for record in data}
    assert not {"name", "description", "meta", "context_length"} & records["bare"].keys()
    assert records["alpha"]["name"] == "Alpha"
    assert records["first"]["meta"] == {"llamaswap": {"size": 8}}
    assert records["remote"]["meta"] == {"llamaswap": {"peerID": "box2"}}
    assert "status" not in records["remote"], "what a peer has loaded is not known"


def test_an_alias_is_told_apart_from_its_model_by_name(here) -> None:
    data = here.client.get("/v1/models", headers=ALL).json["data"]
    names = {record["id"]: record.get("name") for record in data}
    assert (names["alpha"], names["first"], names["blank"]) == (
        "Alpha",
        "Alpha (first)",
        "Alpha (blank)",
    )
    one = here.client.get("/v1/models/first", headers=ALL).json
    assert one["name"] == "Alpha (first)"
    shown = [name for name in names.values() if name]
    assert len(shown) == len(set(shown))


def test_when_a_model_was_created_does_not_change(here, monkeypatch) -> None:
    before = here.client.get("/v1/models", headers=ALL).json
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.5)
    assert here.client.get("/v1/models", headers=ALL).json == before
    assert here.client.get("/v1/models/zeta", headers=ALL).json["created"] < 2_000_000_000


def test_what_a_model_has_told_of_its_context_is_listed(here) -> None:
    here.service.contexts._known["zeta"] = 8192
    record = here.client.get("/v1/models/zeta", headers=ALL).json
    assert record["context_length"] == 8192


@pytest.mark.parametrize(
    ("name", "status"), [("first", 200), ("hidden", 200), ("box3/remote", 200), ("nope", 404)]
)
def test_one_record_by_any_name(here, name: str, status: int) -> None:
    assert here.client.get(f"/v1/models/{name}", headers=ALL).status_code == status


def test_nothing_runs_at_first(here) -> None:
    answer = here.client.get("/running", headers=ALL)
    assert answer.json == {"running": []}
    assert answer.content_type == "application/json"


def test_an_admins_key_acts_on_its_models_only(here) -> None:
    root = {"x-api-key": "root"}
    assert here.client.post("/api/models/unload/zeta", headers=root).status_code == 200
    assert here.client.post("/api/models/unload/alpha", headers=root).status_code == 404
