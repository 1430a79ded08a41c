import base64
from dataclasses import dataclass

from llmsnap.http import auth
from llmsnap.http.auth import ANYBODY, Keyring, WrongKeys, presents_key
from tests.fakes.clock import Clock


@dataclass
class Entry:
    key: str
    name: str = ""
    models: tuple[str, ...] | None = None
    admin: bool = True
    upstream: bool = False


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


RING = Keyring([Entry("key1", "one"), Entry("pa:ss", "two"), Entry("schlüssel", "three")])

SENDERS = {
    ("Bearer key1", None): "one",
    ("BEARER  key1 ", None): "one",
    (None, "key1"): "one",
    (basic(":key1"), None): "one",
    (basic("user:pa:ss"), None): "two",
    (basic("u:key1").replace("Basic", "bAsIc"), None): "one",
    ("Bearer schlüssel".encode().decode("latin-1"), None): "three",
    (basic("u:schlüssel"), None): "three",
    # What is no credential at all does not hide the one that is.
    ("Basic %%%", "key1"): "one",
    (basic("nocolon"), "key1"): "one",
    ("Digest abc", "key1"): "one",
    ("Bearer", "key1"): "one",
    ("", "key1"): "one",
    # A wrong one does not hide the right one, and the first right one counts.
    ("Bearer wrong", "key1"): "one",
    (basic("u:wrong"), "key1"): "one",
    ("Bearer key1", "pa:ss"): "one",
    ("Bearer wrong", "wrong"): None,
    (None, None): None,
    ("", ""): None,
    ("key1", None): None,
    ("Bearer key1x", None): None,
    ("Basic key1", None): None,
    ("Bearer \u20ac", None): None,
}


def test_who_a_request_comes_from() -> None:
    for sent, name in SENDERS.items():
        key = RING.authenticate(*sent)
        assert (key and key.name) == name, sent
        assert Keyring().authenticate(*sent) is ANYBODY


def test_a_blank_key_opens_no_door_and_of_two_the_first_counts() -> None:
    ring = Keyring([Entry(""), Entry("k", "first"), Entry("k", "second")])
    assert ring.authenticate(None, None) is ring.authenticate("Bearer ", "") is None
    assert ring.authenticate("Bearer k", None).name == "first"
    assert [Keyring().open, Keyring([Entry("")]).open] == [True, False]


MAY_USE = {
    (None, "anything"): True,
    ((), "anything"): False,
    (("llama",), "llama2"): False,
    (("llama*",), "llama2"): True,
    (("author/*", "x?"), "author/m/q4"): True,
    (("Llama",), "llama"): False,
}


def test_a_key_with_models_uses_only_those() -> None:
    keys = {globs: Keyring([Entry("k", models=globs)]) for globs, _ in MAY_USE}
    assert {
        (globs, model): keys[globs].authenticate("Bearer k", None).may_use(model)
        for globs, model in MAY_USE
    } == MAY_USE


RIGHTS = {
    (False, False, None): (False, False),
    (False, True, None): (True, False),
    (True, False, None): (True, False),
    (True, False, ("a",)): (True, True),
    (False, False, ()): (False, True),
}


def test_which_rights_a_key_has() -> None:
    found = {}
    for admin, upstream, models in RIGHTS:
        ring = Keyring([Entry("k", models=models, admin=admin, upstream=upstream)])
        key = ring.authenticate("Bearer k", None)
        assert key.admin is admin
        found[admin, upstream, models] = (key.reaches_all, key.is_scoped)
    assert found == RIGHTS
    assert (ANYBODY.admin, ANYBODY.reaches_all, ANYBODY.is_scoped) == (True, True, False)


def test_nothing_shows_a_key() -> None:
    assert repr(RING) == "<Keyring 3 keys>"
    assert "key1" not in repr(RING.authenticate("Bearer key1", None))
    assert "key1" not in repr(vars(RING))


# --- wrong keys ----------------------------------------------------------------------------------


PRESENTED = {
    ("", ""): False,
    ("Bearer ", " "): False,
    ("Digest x", ""): False,
    ("Bearer x", ""): True,
    ("", "x"): True,
    ("Basic OmE=", ""): True,
    ("Basic Og==", ""): False,
}


def test_who_presents_a_key_at_all() -> None:
    assert {sent: presents_key(*sent) for sent in PRESENTED} == PRESENTED


def test_ten_wrong_keys_are_free_and_each_further_one_waits_a_second_longer() -> None:
    clock = Clock(100.0)
    wrong = WrongKeys(clock)
    assert [wrong.note("a") for _ in range(10)] == [0] * 10
    assert [wrong.note("a") for _ in range(12)] == [*range(1, 11), 10, 10]
    assert wrong.note("b") == 0, "another address"
    assert wrong.total == 23


def test_a_second_forgives_one_and_a_while_all() -> None:
    clock = Clock(100.0)
    wrong = WrongKeys(clock)
    for _ in range(10):
        wrong.note("a")
    for _ in range(100):  # one after another, each when the one before was answered
        wait_s = wrong.note("a")
        assert wait_s == 1
        clock.now += wait_s
    clock.now += 10
    assert [wrong.note("a") for _ in range(11)] == [0] * 10 + [1]
    for _ in range(1000):
        wrong.note("a")
    clock.now += 20
    assert wrong.note("a") == 0, "however many there were"


SAME = {
    ("2001:db8::1", "2001:db8::ffff:1"): True,
    ("2001:db8::1", "2001:db8:0:1::1"): False,
    ("fe80::1%eth0", "fe80::2%eth0"): True,
    ("10.0.0.1", "10.0.0.2"): False,
    ("", ""): True,
    ("not:an:address", "not:an:address"): True,
}


def test_addresses_that_one_client_may_choose_from_are_one() -> None:
    for (one, other), is_same in SAME.items():
        wrong = WrongKeys(Clock())
        for _ in range(10):
            wrong.note(one)
        assert bool(wrong.note(other)) is is_same, one


def test_the_addresses_that_are_known_are_bounded_and_the_oldest_goes(monkeypatch) -> None:
    monkeypatch.setattr(auth, "MOST_ADDRESSES", 3)
    wrong = WrongKeys(Clock())
    for address in ("a", "b", "c", "a", "d"):
        for _ in range(10):
            wrong.note(address)
    assert repr(wrong) == "<WrongKeys 50, 3 addresses>"
    assert [bool(wrong.note(address)) for address in "acd"] == [True] * 3
    assert wrong.note("b") == 0
