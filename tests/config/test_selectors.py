"""Selectors: what is read, and every mistake with its place."""

from __future__ import annotations

import pytest

from llmsnap.config.loader import loads
from llmsnap.errors import ConfigError
from tests.config.reading import advice, config, problem
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
    settings:
      retryStatus: [500, 502]
      headerTimeout: ${WAIT}
      failures: 2
      retryAfter: 5
      maxAttempts: 3
      affinity: [" X-Chat ", x-chat, ""]
  away: {strategy: warm, targets: [small, small], settings: {affinity: yes}}
"""
    )
    assert list(found.selectors) == ["away", "work"]
    work, away = found.selectors["work"], found.selectors["away"]
    assert work.targets == (
        *("large", "tiny", "small:high", "remote"),
        *("box/org/deep", "den/shared"),
    )
    assert (work.name, work.description, work.unlisted) == ("Work", "At the desk", True)
    assert dict(work.metadata) == {"team": "blue"}
    assert work.retry_status == {500, 502}
    assert (work.header_timeout_s, work.failures, work.retry_after_s) == (2.5, 2, 5.0)
    assert (work.max_attempts, work.affinity) == (3, ("X-Chat",))
    assert (away.strategy, away.affinity) == ("warm", ("X-Session-ID", "X-Litellm-Session-Id"))
    assert away.retry_status == {502, 503, 504}


def test_what_is_accepted_without_a_word() -> None:
    for rest in (
        "pin, targets: [small, small]",
        "warm, targets: [small, large, other]",
        "spillover, targets: [other]",
        "spillover, targets: [small, large, remote], settings: {spillover: 4}",
        "spillover, targets: [other, box/remote, den/shared]",
    ):
        assert not said_of(f"{{strategy: {rest}}}")


def said_of(selector: str) -> list[str]:
    found = advice(f"{MODELS}selectors: {{s: {selector}}}")
    return [each for each in found if each.startswith("selectors")]


ONE = "{strategy: pin, targets: [small]}"
SPILL = "strategy: spillover, targets: [small"
FAIL = "strategy: failover, targets: [small], settings:"


@parity(
    "Selectors",
    "no strategy, no target, an unknown or ambiguous target, a taken name: the file is refused",
    "the same; each message has line, column and what to do",
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "selectors: must be a mapping"),
        (f"{{' ': {ONE}}}", "selectors. : the id of a selector can not be blank"),
        (f"{{small: {ONE}}}", 'selectors.small: "small" is the id of a model - give'),
        (f"{{tiny: {ONE}}}", 'selectors.tiny: "tiny" is a name of model "small" - give'),
        (f"{{'small:high': {ONE}}}", 'selectors.small:high: "small:high" is a name of model'),
        (f"{{box/remote: {ONE}}}", 'selectors.box/remote: "box/remote" names a model of one'),
        ("{s: 5}", "selectors.s: must be a mapping (found 5)"),
        ("targets: [small]", "strategy: is missing"),
        ("strategy: , targets: [small]", "strategy: is missing"),
        ("strategy: best, targets: [small]", "strategy: must be one of pin, w"),
        ("strategy: pin", "targets: targets can not be empty - list"),
        ("strategy: pin, targets: small", "targets: must be a list"),
        ("strategy: pin, targets: [lagre]", 'targets[0]: "lagre" is no model - did you mean'),
        ("strategy: pin, targets: [shared]", 'targets[0]: "shared" is offered by several peers -'),
        ("strategy: pin, targets: [small, t]", 'targets[1]: "t" is a selector, which can not be a'),
        ("strategy: warm, targets: [small, remote]", 'targets[1]: "remote" is a model of a peer,'),
        (f"{SPILL}, remote, tiny]", 'targets[2]: "tiny" is the same model as "small" - list each'),
        (f"{SPILL}, box/remote, remote]", 'targets[2]: "remote" is the same model as "box/remote"'),
        (f"{SPILL}, remote, other]", 'targets[2]: "other" and "small" can not run together - put'),
        (f"{SPILL}], settings: {{spillover: 0}}", "settings.spillover: must be at least 1 (found"),
        (f"{FAIL} {{retryStatus: [502, 200]}}", "settings.retryStatus[1]: must be at least 400"),
        (f"{FAIL} {{retryStatus: 502}}", "settings.retryStatus: must be a list (found 502) -"),
        (f"{FAIL} {{affinity: X-Chat}}", "settings.affinity: must be true, false or a list of"),
        (f"{FAIL} {{retryAfter: 0}}", "settings.retryAfter: must be at least 1"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    if not words.startswith("selectors"):
        text, words = f"{{s: {{{text}}}, t: {ONE}}}", f"selectors.s.{words}"
    assert problem(f"{MODELS}selectors: {text}").startswith(words)


def test_mistakes_have_their_places() -> None:
    text = "selectors:\n  small:\n    strategy: warm\n    targets:\n      - large\n      - remote\n"
    with pytest.raises(ConfigError) as caught:
        loads(MODELS + text, environ={})
    places = [(each.line, each.column) for each in caught.value.problems]
    first = MODELS.count("\n") + 2
    assert places == [(first, 3), (first + 4, 9)]


def test_a_setting_of_another_strategy_is_advised_against() -> None:
    for strategy, setting in (
        ("pin", "spillover: 2"),
        ("pin", "affinity: true"),
        ("warm", "failures: 2"),
        ("spillover", "retryStatus: [500]"),
    ):
        where, because = setting.partition(":")[0], f"has no effect with strategy: {strategy}"
        assert said_of(f"{{strategy: {strategy}, targets: [small], settings: {{{setting}}}}}") == [
            f"selectors.s.settings.{where}: {because} - remove it"
        ]
