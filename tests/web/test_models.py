"""The documents that list models, and the views that answer them."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from llmsnap.models import Facts, parse_address, voices
from llmsnap.telemetry import ActivityRecord, ProfileChanged
from tests.parity import parity
from tests.web.serving import site, site_fixture

TEXT = """\
includeAliasesInList: true
apiKeys:
  - all
  - {key: some, models: ["z*", first], admin: false}
  - {key: root, models: [zeta], admin: true}
  - {key: none, models: [nothing]}
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


def names(here, key: str = "all") -> list[str]:
    return [record["id"] for record in get(here, "/v1/models", key)["data"]]


def test_each_name_is_listed_once_in_order_and_a_key_acts_on_what_it_may_use(here) -> None:
    peers = ["box2/alpha", "box2/first", "box2/hidden", "box2/remote", "box3/remote"]
    assert names(here) == sorted(["alpha", "bare", "blank", "first", "remote", "zeta", *peers])
    assert names(here, "some") == ["box2/first", "first", "zeta"]
    for name, status in (("zeta", 200), ("alpha", 404)):
        answer = here.client.post(f"/api/models/unload/{name}", headers={"x-api-key": "root"})
        assert answer.status_code == status


@parity(
    "Capabilities and model records",
    "`meta.llamaswap` says whether a name is a model, alias, or peer's",
)
def test_a_record_says_what_its_name_is(here) -> None:
    found = records(here)
    meta = {name: record["meta"]["llamaswap"] for name, record in found.items()}
    assert meta["alpha"] == {"size": 8, "type": "model", "aliases": ["first", " blank "]}
    assert meta["first"] == {"size": 8, "type": "alias", "modelID": "alpha"}
    assert meta["box3/remote"] == {"type": "peer", "peerID": "box3"}
    assert meta["remote"] == {"type": "alias", "modelID": "box2/remote", "peerID": "box2"}
    assert {record["status"]["value"] for record in found.values()} == {"unloaded"}
    absent = {"name", "description", "context_length", "architecture", "capabilities"}
    assert not absent & found["bare"].keys()
    assert found["bare"]["meta"] == {"llamaswap": {"type": "model"}}
    shown = {name: record["name"] for name, record in found.items() if "name" in record}
    titles = {"alpha": "Alpha", "first": "Alpha (first)", "blank": "Alpha (blank)"}
    assert titles.items() <= shown.items()
    assert len(shown) == len(set(shown.values()))
    answer = here.client.get("/running", headers=ALL)
    assert (answer.json, answer.content_type) == ({"running": []}, "application/json")
    for name, status in (("first", 200), ("hidden", 200), ("box3/remote", 200), ("nope", 404)):
        assert here.client.get(f"/v1/models/{name}", headers=ALL).status_code == status


CAPABLE = """\
models:
  eyes:
    cmd: x
    proxy: "http://localhost:1"
    metadata: {context_length: 5, note: n}
    capabilities: {in: [text, image], out: [text], tools: true, context: 8192}
  ears: {cmd: x, proxy: "http://localhost:1", capabilities: {in: [audio], out: [text, audio]}}
  order: {cmd: x, proxy: "http://localhost:1", capabilities: {reranker: true}}
  paint: {cmd: x, proxy: "http://localhost:1", capabilities: {in: [text, image], out: [image]}}
  says: {cmd: x, proxy: "http://localhost:1", capabilities: {in: [text], out: [audio]}}
"""


@parity(
    "Capabilities and model records",
    "architecture, capabilities, `context_length` and `supported_parameters` in records",
)
def test_capabilities_are_shown_in_the_forms_that_clients_read() -> None:
    with site(CAPABLE) as made:
        data = made.client.get("/v1/models").json["data"]
    records = {record["id"]: record for record in data}
    eyes = records["eyes"]
    modalities = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    assert eyes["architecture"] == {**modalities, "modality": "text+image->text"}
    assert eyes["supported_parameters"] == ["tools", "tool_choice"]
    assert (eyes["context_length"], eyes["meta"]["n_ctx"]) == (8192, 8192)
    meta = {"note": "n", "type": "model", "context_source": "configured"}
    assert eyes["meta"]["llamaswap"] == meta
    assert {name: set(record["capabilities"]) for name, record in records.items()} == {
        "eyes": {"vision", "function_calling"},
        "ears": {"audio_transcriptions"},
        "order": {"reranker"},
        "paint": {"vision", "image_generation", "image_to_image"},
        "says": {"audio_speech"},
    }
    assert not {"architecture", "supported_parameters"} & records["order"].keys()


def test_when_a_model_was_created_does_not_change(here, monkeypatch) -> None:
    before = get(here, "/v1/models")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.5)
    assert get(here, "/v1/models") == before
    assert get(here, "/v1/models/zeta")["created"] < 2_000_000_000


@parity(
    "Capabilities and model records",
    "context and media of a model must be configured",
    "they are also learned from its server, and known while it is not loaded",
)
def test_context_and_media_that_a_server_reported_are_listed(here) -> None:
    zeta = here.service.runtime.config.models["zeta"]
    here.service.facts.note(zeta, Facts(8192, ("image",)))
    record = get(here, "/v1/models/zeta")
    assert (record["context_length"], record["meta"]["n_ctx"]) == (8192, 8192)
    assert record["meta"]["llamaswap"]["context_source"] == "remembered"
    assert record["capabilities"] == {"vision": True}
    assert record["architecture"]["modality"] == "text+image->text"


def test_an_anthropic_client_finds_its_members_beside_openais(here) -> None:
    version = {"anthropic-version": "2023-06-01"}
    plain = here.client.get("/v1/models", headers=ALL).json
    page = here.client.get("/v1/models", headers=ALL | version).json
    names = [record["id"] for record in plain["data"]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, names[0], names[-1])
    for before, after in zip(plain["data"], page["data"], strict=True):
        assert after.items() >= before.items()
        assert after["type"] == "model"
        assert after["display_name"] == before.get("name", before["id"])
        at = datetime.fromisoformat(after["created_at"])
        assert (at.timestamp(), at.utcoffset()) == (before["created"], timedelta(0))
    one = here.client.get("/v1/models/alpha", headers=ALL | version).json
    assert (one["type"], one["display_name"]) == ("model", "Alpha")
    assert set(plain) == {"object", "data"}
    page = here.client.get("/v1/models", headers={"x-api-key": "none"} | version).json
    assert (page["data"], page["first_id"], page["last_id"]) == ([], None, None)


@pytest.fixture
def speaking(monkeypatch):
    """Two ready models whose servers list voices, one whose server does not."""
    text = """\
        apiKeys: [all, {key: some, models: [one]}]
        models:
          one: &m {cmd: x, proxy: "http://localhost:1"}
          two: *m
          mute: *m
          said: {<<: *m, capabilities: {in: [text], out: [audio]}}
        """
    listed = {"one": {"voices": ["amy", {"id": "bo"}]}, "two": ["amy", "cy"]}
    asked = []

    def send(address, call):
        assert (call.method, call.path) == ("GET", "/v1/audio/voices")
        asked.append(address.name)
        known = listed.get(address.name)
        return (404, b"no") if known is None else (200, json.dumps(known).encode())

    monkeypatch.setattr(voices, "send", send)
    with site(text) as made:
        address = parse_address("http://localhost:1")
        ready = {name: replace(address, name=name) for name in ("one", "two", "mute")}
        monkeypatch.setattr(made.service, "ready_addresses", lambda: ready)
        made.ready, made.asked = ready, asked
        yield made


def get(here, path: str, key: str = "all"):
    return here.client.get(path, headers={"x-api-key": key}).json


def speakers(speaking, key: str = "all") -> list[str]:
    return [record["id"] for record in get(speaking, "/v1/audio/models", key)["data"]]


def test_voices_are_those_of_all_ready_models_which_stay_listed_when_stopped(speaking) -> None:
    assert get(speaking, "/v1/audio/voices") == {"voices": ["amy", {"id": "bo"}, "cy"]}
    del speaking.ready["one"]
    assert get(speaking, "/v1/audio/voices") == {"voices": ["amy", "cy"]}
    assert sorted(speaking.asked) == ["mute", "one", "two"], "each is asked once in a run"
    speaking.ready.clear()
    assert speakers(speaking) == ["one", "said", "two"]
    found = get(speaking, "/v1/audio/models")
    assert found["models"] == found["data"]
    assert get(speaking, "/v1/audio/voices") == {"voices": []}


def test_a_model_that_has_spoken_is_listed_whatever_its_server_lists(speaking) -> None:
    speaking.ready.clear()
    log = speaking.service.telemetry.activity
    speech, chat = "/v1/audio/speech", "/v1/chat/completions"
    for name, path, status in (("mute", speech, 200), ("one", speech, 404), ("two", chat, 200)):
        log.append(ActivityRecord(id=log.take_id(), model_id=name, path=path, status=status))
    assert speakers(speaking) == ["mute", "said"]


def test_a_key_asks_and_sees_its_own_models(speaking) -> None:
    assert speakers(speaking, "some") == speaking.asked == ["one"]
    assert get(speaking, "/v1/audio/voices", "some") == {"voices": ["amy", {"id": "bo"}]}


WITH_PROFILES = """\
apiKeys: [all, {key: some, models: ["z*", gpt]}]
models:
  zeta: {cmd: x, proxy: "http://localhost:1"}
  alpha: {cmd: x, proxy: "http://localhost:1"}
peers: {box: {proxy: "http://box", models: [far]}}
profiles:
  work: {description: At the desk, pins: {gpt: zeta, zeta: far, alpha: , new: box/far}}
  away: {pins: {gpt: alpha}}
"""
desk = site_fixture(WITH_PROFILES)


def activate(desk, body: object, key: str = "all", kind: str = "application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"x-api-key": key, "content-type": kind}
    return desk.client.put("/api/profiles/active", data=data, headers=headers)


@parity("Profiles", "`GET /api/profiles`", "the same; a key with `models` sees only its pins")
def test_profiles_are_listed_with_what_the_key_may_use(desk) -> None:
    pins = {"gpt": "zeta", "zeta": "far", "alpha": "", "new": "box/far"}
    away = {"id": "away", "description": "", "pins": {"gpt": "alpha"}}
    work = {"id": "work", "description": "At the desk", "pins": pins}
    assert get(desk, "/api/profiles") == {"active": None, "profiles": [away, work]}
    shown = [each["pins"] for each in get(desk, "/api/profiles", "some")["profiles"]]
    assert shown == [{"gpt": "alpha"}, {"gpt": "zeta", "zeta": "far"}]


@parity("Profiles", "`PUT /api/profiles/active`")
def test_a_profile_is_activated_and_given_up(desk) -> None:
    told: list[str] = []
    desk.service.bus.subscribe(ProfileChanged, lambda event: told.append(event.name))
    for name, active, kind in (
        ("work", "work", "text/plain"),
        ("work", "work", "application/json"),
        ("", None, "application/json"),
        ("away", "away", "application/json"),
        (None, None, "application/json"),
    ):
        assert activate(desk, {"name": name}, kind=kind).json == {"active": active}
        assert get(desk, "/api/profiles")["active"] == active
    assert told == ["work", "", "away", ""], "what changes nothing is no change"


def test_what_cannot_be_activated(desk) -> None:
    for body, key, status, words in (
        (b"{", "all", 400, "the body must be JSON"),
        (b"[" * 50_000, "all", 400, "the body must be JSON"),
        (b"{}", "all", 400, "an object with `name`"),
        (b'{"name": 5}', "all", 400, "`name` must be a text, or null"),
        (b" " * 70_000, "all", 413, "this route allows 65536"),
        (b'{"name": "wrk"}', "all", 404, "did you mean work?"),
        (b'{"name": "nothing"}', "all", 404, "GET /api/profiles lists them"),
        (b'{"name": "work"}', "some", 403, "no admin right"),
    ):
        answer = activate(desk, body, key)
        assert answer.status_code == status, body[:20]
        assert words in answer.json["error"]["message"]
        assert not desk.service.runtime.profile


@parity("Profiles", "pins in `/v1/models`", "the same, with the state of the target")
def test_the_list_follows_the_active_profile(desk) -> None:
    activate(desk, {"name": "work"})
    found = records(desk)
    assert list(found) == ["box/far", "gpt", "new", "zeta"]
    assert found["gpt"]["status"] == {"value": "unloaded"}
    assert found["gpt"]["meta"] == {"llamaswap": {"type": "profile", "targets": ["zeta"]}}
    assert found["new"]["meta"]["llamaswap"]["targets"] == ["box/far"]
    assert names(desk, "some") == ["gpt", "zeta"]
    for name, status in (("alpha", 200), ("gpt", 404)):  # by hand a name is taken as it is
        answer = desk.client.post(f"/api/models/unload/{name}", headers=ALL)
        assert answer.status_code == status


WITH_SELECTORS = """\
apiKeys: [all, {key: some, models: [chat, fast]}]
models:
  big: {cmd: x, proxy: "http://localhost:1", checkEndpoint: none}
  small: {cmd: x, proxy: "http://localhost:2", checkEndpoint: none}
groups: {all: {swap: false, members: [big, small]}}
peers: {box: {proxy: "http://box", models: [far]}}
selectors:
  chat:
    strategy: spillover
    targets: [box/far, small]
    name: " Chat "
    description: Whoever is free
    metadata: {team: blue, type: mine}
    settings: {spillover: 3}
  first: {strategy: pin, targets: [big, small]}
  fast: {strategy: failover, targets: [far, small], unlisted: true}
profiles:
  work: {pins: {gpt: chat, first: }}
"""
choice = site_fixture(WITH_SELECTORS)


def records(here, key: str = "all") -> dict:
    return {record["id"]: record for record in get(here, "/v1/models", key)["data"]}


@parity("Selectors", "records in `/v1/models`: `type`, `strategy`, `targets`, `spillover`, status")
def test_selectors_are_listed(choice) -> None:
    found = records(choice)
    assert list(found) == ["big", "box/far", "chat", "first", "small"]
    chat, targets = found["chat"], ["box/far", "small"]
    assert (chat["name"], chat["description"]) == ("Chat", "Whoever is free")
    kept = {"strategy": "spillover", "targets": targets, "spillover": 3}
    assert chat["meta"]["llamaswap"] == {"team": "blue", "type": "selector", **kept}
    assert "spillover" not in found["first"]["meta"]["llamaswap"]
    choice.service.driver.load("small")
    states = {name: record["status"]["value"] for name, record in records(choice).items()}
    assert (states["chat"], states["first"]) == ("loaded", "unloaded"), "pin looks at its first"
    unlisted = get(choice, "/v1/models/fast", "some")
    assert unlisted["meta"]["llamaswap"]["strategy"] == "failover"
    assert list(records(choice, "some")) == ["chat"]


@parity("Profiles", "a pin to a selector, and one that hides a selector")
@parity("Selectors", "load, unload and sleep take models only: 404")
def test_pins_of_selectors_and_what_takes_no_selector(choice) -> None:
    choice.service.activate_profile("work")
    found = records(choice)
    assert list(found) == ["big", "box/far", "chat", "gpt", "small"]
    assert found["gpt"]["meta"]["llamaswap"] == {"type": "profile", "targets": ["chat"]}
    for action in ("load", "unload", "sleep"):
        answer = choice.client.post(f"/api/models/{action}/chat", headers=ALL)
        assert answer.status_code == 404


def test_how_the_targets_of_selectors_stand(choice) -> None:
    memory = choice.service.dispatcher.selectors
    memory.sessions.note(("chat", b"s"), "small", memory.clock())
    listed = get(choice, "/api/selectors")["selectors"]
    assert [each["id"] for each in listed] == ["chat", "fast", "first"]
    assert listed[0]["strategy"] == "spillover"
    nothing = {"requests": 0, "failures": 0, "retry_in_s": 0.0}
    assert listed[0]["targets"] == [
        {"target": "box/far", "state": "remote", "sessions": 0, **nothing},
        {"target": "small", "state": "ready", "sessions": 1, **nothing},
    ]
    some = get(choice, "/api/selectors", "some")["selectors"]
    assert [each["id"] for each in some] == ["chat", "fast"]
