"""Merges the Prometheus pages of model servers, each series labelled with its model. Pure.

The format is Prometheus' text exposition format 0.0.4. Lines that do not follow it are left out, so
that one server cannot make the whole page unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OWN_PREFIXES = ("llmsnap_", "llamaswap_", "process_", "python_")
"""Families of llmsnap's own page, and those that every Python server has beside its model's."""
MOST_LINES = 20_000
"""Lines read from one page; vLLM's has some 2,000."""
MOST_CHARS = 4096
"""Longer lines are left out."""
PARTS = ("_bucket", "_sum", "_count")

_NAME = r"[A-Za-z_:][A-Za-z0-9_:]*"
_LABEL = r'[A-Za-z_][A-Za-z0-9_]*="(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"#\s*(HELP|TYPE)\s+({_NAME})\s+(.*)")
_SAMPLE = re.compile(
    rf"({_NAME})(?:\{{((?:{_LABEL}(?:, ?|(?=\}})))*)\}})?"
    r" +([+-]?(?:[0-9][0-9.eE+-]*|Inf|inf|NaN|nan)|\.[0-9]+)(?: +-?[0-9]+)?"
)
_EACH_LABEL = re.compile(_LABEL)


@dataclass(slots=True)
class Family:
    """A metric family: its comments by kind (``HELP TYPE``), and its samples as lines."""

    comments: dict[str, str] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


def merge(pages: Mapping[str, bytes]) -> bytes:
    """Return one page of the *pages* by model, their series with the label ``model``.

    A label of that name in a page becomes ``exported_model``, as Prometheus does it.
    """
    families: dict[str, Family] = {}
    for model, page in pages.items():
        _read(page.decode("utf-8", "replace"), _escaped(model), families)
    return "".join(line + "\n" for line in _lines(families)).encode()


def _read(page: str, model: str, families: dict[str, Family]) -> None:
    typed: set[str] = set()
    for line in page.split("\n", MOST_LINES)[:MOST_LINES]:
        text = line.strip()
        if len(text) > MOST_CHARS:
            continue
        if comment := _COMMENT.fullmatch(text):
            kind, name, words = comment.groups()
            typed.add(name)
            _family(families, name).comments.setdefault(kind, words)
        elif sample := _SAMPLE.fullmatch(text):
            name, labels, value = sample.groups()
            labels = _renamed((labels or "").rstrip(", "))
            shown = f'{name}{{model="{model}"{"," if labels else ""}{labels}}} {value}'
            _family(families, _family_of(name, typed)).samples.append(shown)


def _renamed(labels: str) -> str:
    """Return *labels* with ``model`` renamed; the text may also be inside of a value."""
    return ",".join(
        f"exported_{label}" if label.startswith("model=") else label
        for label in _EACH_LABEL.findall(labels)
    )


def _family(families: dict[str, Family], name: str) -> Family:
    return families.setdefault(name, Family())


def _family_of(name: str, typed: set[str]) -> str:
    """Return the family of a sample: its name, without the suffix of a histogram's part."""
    for part in PARTS:
        if name not in typed and name.endswith(part) and name.removesuffix(part) in typed:
            return name.removesuffix(part)
    return name


def _lines(families: dict[str, Family]) -> Iterator[str]:
    for name, family in families.items():
        if not family.samples or name.startswith(OWN_PREFIXES):
            continue
        for kind, words in family.comments.items():
            yield f"# {kind} {name} {words}"
        yield from family.samples


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
