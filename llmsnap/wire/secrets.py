"""Takes secrets out of command lines before anybody sees them."""

from __future__ import annotations

import re

from llmsnap.wire.headers import REDACTED

_WORD = r"(?:api-?key|apikey|key|token|auth|authorization|secret|password|passwd|pwd|credentials?)"
_VALUE = r""""(?:[^"\\]|\\.)*"|'[^']*'|[^\s"']\S*"""

# A name is cut at - _ and . into words: "--hf-token" has one, "--max-tokens" and "--keep" none.
# A value that begins with a dash is the next option, and that of a "...-file" is only a path.
_NAMED = re.compile(
    rf"(?P<name>(?<![\w.-])-{{0,2}}(?:[a-z0-9]+[-_.])*?{_WORD}(?:[-_.](?!file\b|path\b)[a-z0-9]+)*)"
    rf"(?P<between>=|(?:\s|\\\r?\n)+(?!-))(?P<value>{_VALUE})",
    re.IGNORECASE,
)
_SHAPED = re.compile(
    r"(?P<before>\b(?:bearer|basic)\s+)[^\s\"']+|\b(?:sk|pk|rk|hf|gsk|xai|ghp)[-_][\w-]{6,}",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^\s/@\"']+@")


def masked(command: str) -> str:
    """*command* with the values blotted out that are keys or tokens, by their name or shape."""
    command = _NAMED.sub(_mask_value, command)
    command = _SHAPED.sub(lambda found: (found["before"] or "") + REDACTED, command)
    return _USERINFO.sub(REDACTED + "@", command)


def _mask_value(found: re.Match[str]) -> str:
    name = found["name"]
    # Without "=" only an option takes what follows: "the key is" is no secret.
    if found["between"] != "=" and not name.startswith("-"):
        return found[0]
    return f"{name}{found['between']}{REDACTED}"
