"""Selectors and profiles: what is read, and every mistake with its place."""

from tests.config.reading import advice, config, places, problem
from tests.parity import parity

MODELS = """\
macros: {BIG: large, WAIT: 2.5}
models:
  small: {cmd: "x ${PORT}", aliases: [tiny], filters: {setParamsByID: {"small:high": {a: 1}}}}
  large: {cmd: "x ${PORT}"}
  other: {cmd: "x ${PORT}"}
groups:
  pair: {swap: false, members: [small, "${BIG}"]}
peers:
  box: {proxy: "http://box", models: [remote, org/deep, shared]}
  den: {proxy: "http://den", models: [shared]}
"""


@parity(
    "Selectors",
    "`selectors.<id>` with `strategy`, `targets`, `settings.spillover`, `name`, `description`, "
    "`unlisted`, `metadata`",
    "the same, and `failover` with its settings, and `settings.affinity`",
)
def test_a_selector_is_read() -> None:
    found = config(
        MODELS
        + """\
selectors:
  work:
    strategy: failover
    targets: ["${BIG}", tiny, "small:high", remote, box/org/deep, den/shared]
    name: Work
    description: At the desk
    unlisted: true
    metadata: {team: blue}
    settings: {retryStatus: [500, 502], headerTimeout: "${WAIT}", failures: 2, retryAfter: 5,
      maxAttempts: 3, affinity: [" X-Chat ", x-chat, ""]}
  away: {strategy: warm, targets: [small, small], settings: {affinity: yes}}
"""
    )
    assert list(found.selectors) == ["away", "work"]
    work, away = found.selectors["work"], found.selectors["away"]
    assert " ".join(work.targets) == "large tiny small:high remote box/org/deep den/shared"
    assert (work.name, work.description, work.unlisted) == ("Work", "At the desk", True)
    assert dict(work.metadata) == {"team": "blue"}
    assert work.retry_status == {500, 502}
    assert (work.header_timeout_s, work.failures, work.retry_after_s) == (2.5, 2, 5.0)
    assert (work.max_attempts, work.affinity) == (3, ("X-Chat",))
    assert (away.strategy, away.affinity) == ("warm", ("X-Session-ID", "X-Litellm-Session-Id"))
    assert away.retry_status == {502, 503, 504}


OF_OTHERS = {
    "pin, targets: [small, small]": "",
    "warm, targets: [small, large, other]": "",
    "spillover, targets: [other]": "",
    "spillover, targets: [small, large, remote], settings: {spillover: 4}": "",
    "spillover, targets: [other, box/remote, den/shared]": "",
    "pin, targets: [small], settings: {spillover: 2}": "spillover",
    "pin, targets: [small], settings: {affinity: true}": "affinity",
    "warm, targets: [small], settings: {failures: 2}": "failures",
    "spillover, targets: [small], settings: {retryStatus: [500]}": "retryStatus",
}


def test_a_setting_of_another_strategy_is_advised_against() -> None:
    for selector, said in OF_OTHERS.items():
        found = advice(f"{MODELS}selectors: {{s: {{strategy: {selector}}}}}")
        because = f"has no effect with strategy: {selector.partition(',')[0]} - remove it"
        expected = [f"selectors.s.settings.{said}: {because}"] if said else []
        assert [each for each in found if each.startswith("selectors")] == expected


ONE = "{strategy: pin, targets: [small]}"
SPILL = "strategy: spillover, targets: [small"
FAIL = "strategy: failover, targets: [small], settings:"

MISTAKES = {
    f"{{' ': {ONE}}}": "selectors. : the id of a selector can not be blank",
    f"{{small: {ONE}}}": 'selectors.small: "small" is the id of a model - give',
    f"{{tiny: {ONE}}}": 'selectors.tiny: "tiny" is a name of model "small" - give',
    f"{{'small:high': {ONE}}}": 'selectors.small:high: "small:high" is a name of model',
    f"{{box/remote: {ONE}}}": 'selectors.box/remote: "box/remote" names a model of one',
    "{s: 5}": "selectors.s: must be a mapping (found 5)",
    "targets: [small]": "strategy: is missing",
    "strategy: best, targets: [small]": "strategy: must be one of pin, w",
    "strategy: pin": "targets: targets can not be empty - list",
    "strategy: pin, targets: [lagre]": 'targets[0]: "lagre" is no model - did you mean',
    "strategy: pin, targets: [shared]": 'targets[0]: "shared" is offered by several peers -',
    "strategy: pin, targets: [small, t]": 'targets[1]: "t" is a selector, which can not be a',
    "strategy: warm, targets: [small, remote]": 'targets[1]: "remote" is a model of a peer,',
    f"{SPILL}, remote, tiny]": 'targets[2]: "tiny" is the same model as "small" - list each',
    f"{SPILL}, box/remote, remote]": 'targets[2]: "remote" is the same model as "box/remote"',
    f"{SPILL}, remote, other]": 'targets[2]: "other" and "small" can not run together - put',
    f"{FAIL} {{retryStatus: [502, 200]}}": "settings.retryStatus[1]: must be at least 400",
    f"{FAIL} {{affinity: X-Chat}}": "settings.affinity: must be true, false or a list of",
}


@parity(
    "Selectors",
    "no strategy, no target, an unknown or ambiguous target, a taken name: the file is refused",
    "the same; each message has line, column and what to do",
)
def test_mistakes() -> None:
    for written, words in MISTAKES.items():
        whole = written.startswith("{")
        text = written if whole else f"{{s: {{{written}}}, t: {ONE}}}"
        found = problem(f"{MODELS}selectors: {text}")
        assert found.startswith(words if whole else f"selectors.s.{words}")


def test_mistakes_have_their_places() -> None:
    text = "selectors:\n  small:\n    strategy: warm\n    targets:\n      - large\n      - remote\n"
    first = MODELS.count("\n") + 2
    assert places(MODELS + text) == [(first, 3), (first + 4, 9)]


WORK, HOOK = "profiles: {work: {pins: {a: large}}}", "hooks.on_startup.profile"


@parity("Profiles", "`profiles.<name>` with `description` and `pins`; `hooks.on_startup.profile`")
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


OF_PROFILES = {
    "profiles: {p: }": "profiles.p.pins: pins can not be empty",
    "profiles: {p: {pins: {}}}": "profiles.p.pins: pins can not be empty",
    "profiles: {p: 5}": "profiles.p: must be a mapping (found 5)",
    "profiles: {p: [a], q: {pins: {a: large}}}": "profiles.p: must be a mapping (found",
    "profiles: {' ': {pins: {a: large}}}": "profiles. : the name of a profile can not be",
    "profiles: {p: {pins: {' ': large}}}": "profiles.p.pins. : the name of a pin can not be",
    "profiles: {p: {pins: {a: lagre}}}": 'profiles.p.pins.a: "lagre" is no model - did you',
    "profiles: {p: {pins: {a: b, b: large}}}": 'profiles.p.pins.a: "b" is no model',
    "profiles: {p: {pins: {a: '${no}'}}}": "profiles.p.pins.a: unknown macro ${no}",
    "profiles: {p: {pins: {box/remote: large}}}": 'profiles.p.pins.box/remote: "box/remote"',
    "hooks: {on_startup: {profile: x}}": f'{HOOK}: "x" is no profile - name one of profiles',
    f"{WORK}\nhooks: {{on_startup: {{profile: wrk}}}}": f'{HOOK}: "wrk" is no profile - did',
}


@parity(
    "Profiles",
    "a profile without pins, a pin or start profile that does not exist: the file is refused",
    "the same; the message has line, column and what to do",
)
def test_mistakes_of_profiles() -> None:
    said = {text: problem(MODELS + text)[: len(words)] for text, words in OF_PROFILES.items()}
    assert said == OF_PROFILES


@parity(
    "Profiles",
    "the old form of `profiles`, lists of models: the file is refused",
    "advice: groups replaced them",
)
def test_lists_of_models_have_no_effect() -> None:
    text = MODELS + "profiles: {work: [small, large]}"
    (said,) = (each for each in advice(text) if each.startswith("profiles"))
    assert said.startswith("profiles: has no effect: lists of models were replaced by groups")
    assert not config(text).profiles
