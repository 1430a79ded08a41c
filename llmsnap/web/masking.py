"""A configuration file as it may be shown: everything that is or looks like a secret is masked.

It works on lines, not on the parsed document, so that a file with errors can be shown as well, with
its line numbers and comments. In doubt it masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmsnap.http import REDACTED, is_reference, is_secret_name, masked, without_known
from llmsnap.suggestions import folded

KEY_LISTS = frozenset({"apikeys", "keys", "authkeys", "accesskeys", "apitokens"})
"""As the file may spell them, without case and ``_ - .``: one that is misspelt is shown, too."""
HARMLESS = frozenset({"name", "models", "admin", "upstream"})
"""What stands beside a key in the list of keys, and tells no secret."""
NOWHERE = 1_000_000
"""An indent that no line is deeper than."""
OPENINGS = frozenset({"", "[", "{", "|", ">", "|-", ">-", "|+", ">+", "[]", "null", "~"})

_MEMBER = re.compile(r"^(\s*(?:#\s*)?(?:-\s+)?)([\"']?)([\w.-]+)\2(\s*:)(\s+|$)(.*)$")
_ITEM = re.compile(r"^(\s*(?:#\s*)?-\s+)(.*)$")


def mask(text: str, known: Iterable[str] = ()) -> str:
    """Return *text* with secrets masked, above all the *known* ones. Lines stay lines."""
    masker = _Masker()
    return without_known("\n".join(masker.line(line) for line in text.split("\n")), known)


class _Masker:
    """Knows, from line to line, whether it is below a secret member."""

    def __init__(self) -> None:
        self._below = NOWHERE
        """Indent of the secret member whose lines these are."""
        self._keys = False
        """Whether that member is the list of API keys, which has harmless parts."""

    def line(self, line: str) -> str:
        if not line.strip():
            return line
        if not self._belongs(line):
            self._below = NOWHERE
        if self._below < NOWHERE:
            return self._secret_line(line)
        member = _MEMBER.match(line)
        if member is None:
            return masked(line)
        before, quote, name, colon, space, value = member.groups()
        lists_keys = folded(name) in KEY_LISTS
        if lists_keys or is_secret_name(name):
            self._below = _indent(line)
            self._keys = lists_keys
            return f"{before}{quote}{name}{quote}{colon}{space}{_value(value)}"
        return masked(line)

    def _belongs(self, line: str) -> bool:
        deeper = _indent(line) > self._below
        is_item = line.lstrip().startswith(("-", "#", "]", "}")) and _indent(line) == self._below
        return deeper or is_item

    def _secret_line(self, line: str) -> str:
        member = _MEMBER.match(line)
        if member is not None:
            before, quote, name, colon, space, value = member.groups()
            shown = value if self._keys and name in HARMLESS else _value(value)
            return f"{before}{quote}{name}{quote}{colon}{space}{shown}"
        item = _ITEM.match(line)
        if item is not None:
            return f"{item[1]}{_value(item[2])}"
        bare = line.lstrip()
        return line if bare in {"]", "}"} else line[: len(line) - len(bare)] + _value(bare)


def _indent(line: str) -> int:
    """Return where the name of a member begins; a dash of a list counts as indent."""
    return len(line) - len(line.lstrip(" "))


def _value(text: str) -> str:
    """Return a masked value. References to the environment and what opens a block tell nothing."""
    return text if text.strip() in OPENINGS or is_reference(text) else REDACTED
