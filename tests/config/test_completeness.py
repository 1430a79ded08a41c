"""A reload takes a file that looks cut off for what it is, and believes one that means it."""

import pytest

from llmsnap.config.loader import loads
from llmsnap.errors import ConfigError

OLD = """\
apiKeys:
  - key-of-the-admin-0123
models:
  a:
    cmd: serve --port ${PORT}
  b:
    cmd: serve --port ${PORT} --long
    ttl: 3600
  c:
    cmd: serve --port ${PORT}
"""


def refused(text: str, old: str = OLD) -> list[str]:
    try:
        loads(text, previous=loads(old))
    except ConfigError as error:
        return [problem.where or "file" for problem in error.problems]
    return []


def test_no_beginning_of_the_file_that_ends_within_a_line_is_taken_for_an_edit() -> None:
    for length in range(1, len(OLD)):
        text = OLD[:length]
        if not text.endswith("\n") and OLD[length] != "\n":
            assert refused(text), text


KEYS, MODELS = OLD[: OLD.index("models")], OLD[OLD.index("models") :]


@pytest.mark.parametrize("text", [OLD, MODELS + KEYS], ids=["keys first", "keys last"])
def test_no_beginning_of_the_file_takes_keys_or_all_models_away(text: str) -> None:
    old = loads(text)
    for length in range(len(text)):
        try:
            new = loads(text[:length], previous=old)
        except ConfigError:
            continue
        assert new.api_keys == old.api_keys, text[:length]
        assert new.models, text[:length]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", ["models", "apiKeys"]),
        ("apiKeys: [key-of-the-admin-0123]", ["models"]),
        ("models: {a: {cmd: x ${PORT}}}", ["apiKeys"]),
        ("models: {}", ["apiKeys"]),
        ("apiKeys: []\nmodels:", ["models"]),
        ("apiKeys: []\nmodels: {}", []),
        (OLD.replace("  c:\n    cmd: serve --port ${PORT}\n", ""), []),
        (OLD.rstrip("\n"), []),
        (OLD.partition("    ttl")[0], []),
        (OLD.partition("\n    ttl")[0], []),
        (OLD.replace("\n", "\r\n").partition("    ttl")[0], []),
        (OLD.partition("600")[0], ["file"]),
    ],
)
def test_only_what_says_so_empties(text: str, where: list[str]) -> None:
    assert sorted(refused(text)) == sorted(where)


def test_a_file_that_had_none_may_go_on_having_none() -> None:
    assert refused("", "startPort: 1") == []
    assert refused("models:", "models: {}") == []


def test_shortening_the_last_line_by_hand_is_an_edit() -> None:
    assert (
        refused(
            "models: {a: {cmd: x ${PORT}}}\nlogLevel: warn",
            "models: {a: {cmd: x ${PORT}}}\nlogLevel: warning",
        )
        == []
    )


def test_the_problem_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as refusal:
        loads("", previous=loads(OLD))
    models, keys = refusal.value.problems
    assert "has 3" in models.what
    assert "models: {}" in models.fix
    assert "has 1" in keys.what
    assert "apiKeys: []" in keys.fix
    assert "key-of-the-admin" not in str(refusal.value)
