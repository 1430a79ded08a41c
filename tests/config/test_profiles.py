"""Profiles: what is read, and every mistake with its place."""

import pytest

from tests.config.reading import advice, config, places, problem
from tests.parity import parity

MODELS = """\
macros: {BIG: large}
models:
  small: {cmd: "x ${PORT}", aliases: [tiny], filters: {setParamsByID: {"small:high": {a: 1}}}}
  large: {cmd: "x ${PORT}"}
peers:
  box: {proxy: "http://box", models: [remote, org/deep]}
"""


WORK, HOOK = "profiles: {work: {pins: {a: large}}}", "hooks.on_startup.profile"


def test_a_profile_is_read() -> None:
    found = config(
        MODELS
        + """\
profiles:
  work:
    description: At the desk
    pins: {gpt-4: "${BIG}", small: tiny, a: "small:high", b: remote, c: box/org/deep, remote: large}
  away:
    pins: {large: , tiny: ""}
hooks: {on_startup: {profile: away}}
"""
    )
    assert (list(found.profiles), found.startup_profile) == (["away", "work"], "away")
    assert dict(found.profiles["away"].pins) == {"large": "", "tiny": ""}
    work = found.profiles["work"]
    assert (work.id, work.description) == ("work", "At the desk")
    assert dict(work.pins) == {
        "gpt-4": "large", "small": "tiny", "a": "small:high", "b": "remote", "c": "box/org/deep",
        "remote": "large",
    }  # fmt: skip


@parity(
    "Profiles",
    "a profile without pins, a pin or start profile that does not exist: the file is refused",
    "the same; the message has line, column and what to do",
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profiles: {p: }", "profiles.p.pins: pins can not be empty"),
        ("profiles: {p: {pins: {}}}", "profiles.p.pins: pins can not be empty"),
        ("profiles: {p: 5}", "profiles.p: must be a mapping (found 5)"),
        ("profiles: {p: [a], q: {pins: {a: large}}}", "profiles.p: must be a mapping (found"),
        ("profiles: {' ': {pins: {a: large}}}", "profiles. : the name of a profile can not be"),
        ("profiles: {p: {pins: {' ': large}}}", "profiles.p.pins. : the name of a pin can not be"),
        ("profiles: {p: {pins: {a: lagre}}}", 'profiles.p.pins.a: "lagre" is no model - did you'),
        ("profiles: {p: {pins: {a: b, b: large}}}", 'profiles.p.pins.a: "b" is no model'),
        ("profiles: {p: {pins: {a: '${no}'}}}", "profiles.p.pins.a: unknown macro ${no}"),
        ("profiles: {p: {pins: {box/remote: large}}}", 'profiles.p.pins.box/remote: "box/remote"'),
        ("hooks: {on_startup: {profile: x}}", f'{HOOK}: "x" is no profile - name one of profiles'),
        (f"{WORK}\nhooks: {{on_startup: {{profile: wrk}}}}", f'{HOOK}: "wrk" is no profile - did'),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    assert problem(MODELS + text).startswith(words)


def test_a_mistake_has_its_place() -> None:
    text = MODELS + "profiles:\n  p:\n    pins:\n      a: nope\n      ' ': large\n"
    assert places(text) == [(10, 10), (11, 7)]


@parity(
    "Profiles",
    "the old form of `profiles`, lists of models: the file is refused",
    "advice: groups replaced them",
)
def test_lists_of_models_have_no_effect() -> None:
    text = MODELS + "profiles: {work: [small, large]}"
    assert [each.partition(" - ")[0] for each in advice(text)] == [
        "profiles: has no effect: lists of models were replaced by groups"
    ]
    assert not config(text).profiles
