"""Detects secrets by name or format, and redacts them from commands, messages and headers.

In doubt a value is redacted, unless that would hide information that users need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

REDACTED = "[REDACTED]"
MIN_VARIABLE_CHARS = 8
MIN_SECRET_CHARS = 4
"""Shorter secrets are not searched for in texts: a key ``1`` would mask every port."""
REMEMBERED_CHARS = 64
"""Longer names are not cached, since clients may invent some."""

_WORD = (
    r"(?:api-?key|apikey|access-?key|key|token|auth|authorization|authentication|bearer|jwt|"
    r"secret|password|passwd|passphrase|pwd|credentials?)"
)
# Names are split into words at - _ and . so that "--hf-token" has a secret word, "--max-tokens" and
# "--keep" have none. The value of "...-file" is only a path.
_NAME = re.compile(
    rf"(?:^|[-_.])(?:{_WORD}|cookie|session|sig|signature)(?:$|[-_.](?!(?:file|path)$))",
    re.IGNORECASE,
)
# A comma at a value's end belongs to the surrounding list.
_VALUE = r""""(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'](?:\S*[^\s,])?"""
# A value that begins with a dash is the next option.
_NAMED = re.compile(
    rf"(?P<name>(?<![\w.-])-{{0,2}}(?:[a-z0-9]+[-_.])*?{_WORD}(?:[-_.](?!file\b|path\b)[a-z0-9]+)*)"
    rf"(?P<between>=|(?:\s|\\\r?\n)+(?!-))(?P<value>{_VALUE})",
    re.IGNORECASE,
)
_SHAPED = re.compile(
    r"(?P<before>(?i:\b(?:bearer|basic)\s+))[^\s\"']+|"
    r"\b(?:sk|pk|rk|hf|gsk|xai|gh[opsur]|github_pat|glpat|xox[abp])[-_][\w-]{6,}|"
    r"\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]+"
)
_USERINFO = re.compile(r"(?<=://)[^\s/@\"']+@")
# Program output: "password: x", "api_key": "x". Not "token: 5", which in a log is not a secret.
_PRINTED = re.compile(
    r"(?P<name>(?:(?:api|access|auth|hf|secret|private)[-_ ]?(?:key|token)|secret|password|passwd|"
    r"passphrase|pwd|credentials?|authorization)[\"']?\s*[:=]\s*)"
    rf"(?P<scheme>(?:bearer|basic)\s+)?(?P<value>{_VALUE})",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"[\"']?\$\{env\.\w+\}[\"']?")


def is_secret_name(name: str) -> bool:
    """Whether the value of a header, parameter, variable or setting of this name is a secret."""
    return _is_secret(name) if len(name) <= REMEMBERED_CHARS else bool(_NAME.search(name.strip()))


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _NAME.search(name.strip()) is not None


def is_reference(value: str) -> bool:
    """Whether *value* is only a reference to a secret: ``${env.NAME}``."""
    return _REFERENCE.fullmatch(value.strip()) is not None


def redact_text(text: str) -> str:
    """Return *text* without anything that looks like a key, and without passwords in URLs."""
    text = _SHAPED.sub(lambda found: (found["before"] or "") + REDACTED, text)
    return _USERINFO.sub(REDACTED + "@", text)


def masked(command: str, known: Iterable[str] = ()) -> str:
    """Return *command* without values that are secrets by name or format, or *known* ones."""
    command = redact_text(_NAMED.sub(_mask_value, command))
    return without_known(command, known)


def secret_values(command: str) -> list[str]:
    """Return the values in *command* that are secrets by name, without surrounding quotes."""
    return [
        found["value"].strip("\"'") for found in _NAMED.finditer(command) if _gives_secret(found)
    ]


def secret_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the values of variables with secret names that are long enough to search for.

    ``XDG_SESSION_CLASS=user`` must not mask every ``user``.
    """
    return [
        value
        for name, value in environ.items()
        if len(value) >= MIN_VARIABLE_CHARS and is_secret_name(name)
    ]


def redact_output(text: str, known: Iterable[str] = ()) -> str:
    """Return program output without anything that looks like a secret or is *known* to be one."""
    text = _PRINTED.sub(lambda found: found["name"] + (found["scheme"] or "") + REDACTED, text)
    return masked(text, known)


def without_known(text: str, known: Iterable[str]) -> str:
    """Return *text* without any occurrence of the *known* secrets."""
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_CHARS:
            text = text.replace(secret, REDACTED)
    return text


def _gives_secret(found: re.Match[str]) -> bool:
    # Without "=" only an option takes the next word: "the key is" holds no secret.
    is_value = found["between"] == "=" or found["name"].startswith("-")
    return is_value and not is_reference(found["value"])


def _mask_value(found: re.Match[str]) -> str:
    return f"{found['name']}{found['between']}{REDACTED}" if _gives_secret(found) else found[0]
