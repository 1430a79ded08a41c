"""What a name may have been meant to be, at a cost that long and many names cannot raise."""

from collections.abc import Iterator

import pytest

from llmsnap import suggestions
from llmsnap.suggestions import distance, nearest, shown

KNOWN = ["llama", "qwen", "Qwen3-8B", "unsloth/gemma-3:Q4", "gpt-4o", "concurrencyLimit", "a"]


def test_what_was_meant() -> None:
    meant = {
        "lama": "llama",
        "QWEN": "qwen",
        "openai/qwen": "qwen",
        "qwen:latest": "qwen",
        "ollama/Qwen3_8b:latest": "Qwen3-8B",
        "qwen3.8b": "Qwen3-8B",
        "gemma-3": "unsloth/gemma-3:Q4",
        "gtp-4o": "gpt-4o",
        "concurency_limit": "concurrencyLimit",
        "qwem": "qwen",
        **dict.fromkeys(("mistral", "b", "", "/", ":"), ""),
    }
    assert {name: "".join(nearest(name, KNOWN)) for name in meant} == meant


def test_the_likeliest_come_first() -> None:
    known = ["llamb", "meta/llama", "LLAMA", "llame"]
    assert nearest("llama", known, 4) == ["LLAMA", "meta/llama", "llamb", "llame"]


class Visited:
    """Names without end that count how many were looked at."""

    def __init__(self, name: str) -> None:
        self.count = 0
        self._name = name

    def __iter__(self) -> Iterator[str]:
        while True:
            self.count += 1
            yield self._name


@pytest.mark.parametrize("name", ["ab" * 20, "ab" * 500_000, "x" * 1_000_000, "a/" * 500_000])
@pytest.mark.parametrize("known", ["ab" * 19 + "ba", "ab" * 500_000 + "c", "zz/" + "ab" * 20])
def test_the_work_is_bounded(name: str, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counted(first: str, second: str, limit: int) -> int:
        compared.append(max(len(first), len(second)))
        return distance(first, second, limit)

    monkeypatch.setattr(suggestions, "distance", counted)
    names = Visited(known)
    nearest(name, names, 3)
    assert names.count <= suggestions.MAX_KNOWN
    assert len(compared) <= suggestions.MAX_COMPARED
    assert max(compared, default=0) <= suggestions.MAX_CHARS


def test_long_names_are_shown_cut() -> None:
    assert shown("x" * 100) == "x" * 100
    assert shown("x" * 10**6) == "x" * 97 + "..."
