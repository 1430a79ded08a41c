from contextlib import nullcontext
from dataclasses import replace

import pytest

from llmsnap import suggestions
from llmsnap.config import Config, ModelConfig, ProfileConfig, loads
from llmsnap.errors import UnknownModel
from llmsnap.routing.names import LocalRoute, Names, PeerRoute
from tests.parity import parity

TEXT = """\
models:
  llama: {cmd: x, proxy: "http://localhost:1", aliases: [gpt-4, "  blank ", shared]}
  author/llama: {cmd: x, proxy: "http://localhost:1"}
  author: {cmd: x, proxy: "http://localhost:1"}
  think:
    cmd: x
    proxy: "http://localhost:1"
    filters: {setParamsByID: {"think:high": {a: 1}}}
peers:
  box1: {proxy: "http://box1", models: [remote, llama, org/deep]}
  box2: {proxy: "http://box2", models: [remote, shared]}
"""


@pytest.fixture(scope="module")
def names() -> Names:
    return Names(loads(TEXT, environ={}))


@parity("Order of names", "ids and aliases, case-sensitive", "the same")
@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("llama", "llama"),
        ("gpt-4", "llama"),
        ("  blank ", "llama"),
        ("blank", "llama"),
        ("author/llama", "author/llama"),
        ("think:high", "think"),
    ],
)
def test_a_model_is_found_by_id_and_alias(names, name: str, model_id: str) -> None:
    route = names.resolve(name)
    assert isinstance(route, LocalRoute)
    assert (route.requested, route.model.id) == (name, model_id)
    assert names.local_id(name) == model_id


@parity(
    "Peers", "a bare name that two peers offer: 404", "the first peer that can be reached serves it"
)
def test_a_peers_model_is_found_with_all_who_have_it(names) -> None:
    route = names.resolve("remote")
    assert isinstance(route, PeerRoute)
    assert (route.peer.id, route.upstream_name) == ("box1", "remote")
    assert [peer.id for peer in route.others] == ["box2"]
    assert names.local_id("remote") is None


@parity("Peers", "local names come before bare names of peers")
@pytest.mark.parametrize("name", ["llama", "shared"])
def test_our_own_come_before_a_peers(names, name: str) -> None:
    assert isinstance(names.resolve(name), LocalRoute)


@parity("Peers", "`<peer>/<model>` always reaches a peer's model")
@pytest.mark.parametrize(
    ("name", "peer", "upstream_name"),
    [("box1/llama", "box1", "llama"), ("box1/org/deep", "box1", "org/deep")],
)
def test_a_peer_may_be_named_with_its_model(names, name, peer, upstream_name) -> None:
    route = names.resolve(name)
    assert isinstance(route, PeerRoute)
    assert (route.peer.id, route.upstream_name, route.others) == (peer, upstream_name, ())


def test_an_unknown_name_is_told_the_nearest(names) -> None:
    for name in ("lama", "LLAMA", "openai/llama", "llama:latest", "ollama/Llama:8b"):
        with pytest.raises(UnknownModel) as caught:
            names.resolve(name)
        assert str(caught.value).startswith(f'model not found: "{name}"; did you mean llama')
    with pytest.raises(UnknownModel, match="GET /v1/models lists them"):
        names.resolve("zzzzz")
    with pytest.raises(UnknownModel) as caught:
        names.resolve("remotes")
    assert str(caught.value).count("remote") == 2, "a name is suggested once"


def test_a_long_unknown_name_is_neither_echoed_nor_compared_whole(names) -> None:
    with pytest.raises(UnknownModel) as caught:
        names.resolve("llama" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_the_caller_s_permission_is_asked_for_a_bounded_number_of_names() -> None:
    models = {f"m{number}": ModelConfig(f"m{number}", "x") for number in range(10_000)}
    asked: list[str] = []

    def may_use(name: str) -> bool:
        asked.append(name)
        return False

    with pytest.raises(UnknownModel):
        Names(Config(models=models)).resolve("nope", may_use)
    assert len(asked) <= suggestions.MAX_KNOWN


def test_what_a_caller_may_not_use_does_not_exist_for_it(names) -> None:
    for name in ("author", "remote", "box1/remote", "nope"):
        with pytest.raises(UnknownModel):
            names.resolve(name, {"llama"}.__contains__)
    with pytest.raises(UnknownModel) as caught:
        names.resolve("autho", {"llama"}.__contains__)
    assert "author" not in str(caught.value)
    # A permit may be for the name, or for what it means.
    for name, permitted in (("gpt-4", "gpt-4"), ("gpt-4", "llama"), ("box1/remote", "remote")):
        assert names.resolve(name, {permitted}.__contains__)


@pytest.mark.parametrize(
    ("path", "permitted", "found"),
    [
        ("llama/", "", ("llama", "/")),
        ("gpt-4/x", "", ("gpt-4", "/x")),
        ("author%2Fllama/x", "", ("author/llama", "/x")),
        ("author/other/x", "", ("author", "/other/x")),
        ("llama/a%2Fb//c/", "", ("llama", "/a%2Fb//c/")),
        ("box1/org/deep/x", "", ("box1/org/deep", "/x")),
        ("nope/x", "", None),
        ("", "", None),
        # What may not be used is unknown, and does not cover a shorter name.
        ("author/llama/x", "author/llama", ("author/llama", "/x")),
        ("author/llama/x", "author", ("author", "/llama/x")),
        ("author/other/x", "llama", None),
        ("box1/remote/x", "llama", None),
        ("gpt-4/x", "llama", ("gpt-4", "/x")),
    ],
)
def test_the_longest_name_a_path_begins_with(names, path: str, permitted: str, found) -> None:
    assert names.in_path(path, lambda name: permitted in {"", name}) == found
    assert Names(Config()).in_path(path) is None


class Counted(dict):
    """Models that count how often they were asked for one."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        self.asked += 1
        return super().__contains__(name)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a/" * 4000, None),
        ("%41/" * 2000, None),
        ("/" * 4000, None),
        ("a%2F" * 2000, None),
        ("box1/org/deep/" + "a/" * 4000, ("box1/org/deep", "/" + "a/" * 4000)),
        ("author%2Fllama/" + "a/" * 4000, ("author/llama", "/" + "a/" * 4000)),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else "",
)
def test_as_many_segments_are_tried_as_the_longest_name_has(path: str, found) -> None:
    config = loads(TEXT, environ={})
    models = Counted(config.models)
    names = Names(replace(config, models=models))
    assert names.in_path(path) == found
    assert models.asked <= 3, "box1/org/deep has three"


def test_all_names_of_our_own(names) -> None:
    assert {"llama", "gpt-4", "author/llama", "think:high"} <= set(names.local_names())


# --- pins of the active profile ------------------------------------------------------------------

PINS = {
    "gpt-4": "author/llama",
    "llama": "author",
    "author": "",
    "remote": "box2/remote",
    "new": "remote",
    "high": "think:high",
    "author/llama": "gpt-4",
}


@pytest.fixture(scope="module")
def pinned() -> Names:
    return Names(loads(TEXT, environ={}), ProfileConfig("work", pins=PINS))


@parity("Profiles", "pins come before all other names and are followed once")
@pytest.mark.parametrize(
    ("name", "requested", "served"),
    [
        ("gpt-4", "author/llama", "author/llama"),
        ("llama", "author", "author"),
        ("high", "think:high", "think"),
        ("new", "remote", "box1"),
        ("remote", "box2/remote", "box2"),
        ("think", "think", "think"),
    ],
)
def test_a_pin_comes_first_and_is_followed_once(pinned, name, requested, served) -> None:
    route = pinned.resolve(name)
    found = route.model.id if isinstance(route, LocalRoute) else route.peer.id
    assert (route.requested, found) == (requested, served)
    assert isinstance(route, PeerRoute) or pinned.served_id(name) == served


@parity(
    "Profiles",
    "a pin without a target disables the name: 404",
    "the same; the message names the profile",
)
def test_a_disabled_name_is_unknown_and_the_profile_is_named(pinned) -> None:
    with pytest.raises(UnknownModel) as caught:
        pinned.resolve("author")
    assert str(caught.value) == 'model not found: "author"; the active profile "work" disables it'
    with pytest.raises(UnknownModel) as caught:
        pinned.resolve("author", {"llama"}.__contains__)
    assert "work" not in str(caught.value)
    with pytest.raises(UnknownModel, match="GET /v1/models lists them"):
        pinned.resolve("authors")


@pytest.mark.parametrize(
    ("name", "permitted", "is_found"),
    [
        ("new", "new", True),
        ("new", "remote", True),
        ("llama", "author/llama", False),
        ("new", "high", False),
    ],
)
def test_a_permit_may_be_for_the_pin_or_for_its_target(pinned, name, permitted, is_found) -> None:
    outcome = nullcontext() if is_found else pytest.raises(UnknownModel)
    with outcome:
        pinned.resolve(name, {permitted}.__contains__)


@parity("Profiles", "pins apply below `/upstream/`, the longest first")
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("llama/x%2Fy", ("llama", "/x%2Fy")),
        ("author%2Fllama/x", ("author/llama", "/x")),
        ("think/v1", ("think", "/v1")),
        ("nope/x", None),
    ],
)
def test_the_longest_pin_a_path_begins_with(pinned, path, found) -> None:
    assert pinned.below_upstream(path) == found
    assert pinned.below_upstream(path, set[str]().__contains__) == (
        None if path.startswith("think") else found
    )
    hiding = Names(loads(TEXT, environ={}), ProfileConfig("p", pins={"author": "think"}))
    assert hiding.below_upstream("author/llama/x") == ("author", "/llama/x")
