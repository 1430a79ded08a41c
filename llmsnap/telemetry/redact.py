"""Takes secrets out of what is kept: headers, query parameters, JSON fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from llmsnap.http.secrets import REDACTED, is_secret_name

_json_decoder = json.JSONDecoder()


def redact_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first value of each header, those of secret ones replaced."""
    shown: dict[str, str] = {}
    for name, value in headers:
        shown.setdefault(name, REDACTED if is_secret_name(name) else value)
    return shown


class Redactor:
    """Replaces the values of configured JSON fields and query parameters (any case)."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names if name)
        self._member: re.Pattern[str] | None = None
        self._quoted: re.Pattern[str] | None = None
        if self._names:
            # A field's own name as it stands in JSON, and inside JSON that is itself in a string
            # (arguments of tool calls).
            any_name = "|".join(re.escape(json.dumps(name)[1:-1]) for name in sorted(self._names))
            self._member = re.compile(rf'(?<!\\)"(?:{any_name})"\s*:\s*', re.IGNORECASE)
            self._quoted = re.compile(
                rf'(\\"(?:{any_name})\\"\s*:\s*)(\\".*?(?<!\\)(?:\\\\\\\\)*\\"|[^,}}\]\\"\s]+)',
                re.IGNORECASE,
            )

    @property
    def active(self) -> bool:
        """Whether any field is configured, so that bodies have to be looked at."""
        return bool(self._names)

    def path(self, path: str, query: str) -> str:
        """Return path and query, values of secret parameters replaced."""
        if not query:
            return path
        return f"{path}?{'&'.join(self._parameter(part) for part in query.split('&'))}"

    def body(self, body: bytes) -> bytes:
        """Return a JSON or SSE body, values of the configured fields replaced.

        Works on text, so a body that is cut or not quite JSON is treated as well as can be.
        """
        if self._member is None or self._quoted is None or not body:
            return body
        text = body.decode("utf-8", "surrogateescape")
        redacted = self._quoted.sub(rf'\g<1>\\"{REDACTED}\\"', self._members(text, self._member))
        return redacted.encode("utf-8", "surrogateescape")

    def _parameter(self, part: str) -> str:
        name, equals, _ = part.partition("=")
        plain = unquote_plus(name)
        secret = is_secret_name(plain) or plain.lower() in self._names
        return f"{name}={REDACTED}" if equals and secret else part

    def _members(self, text: str, member: re.Pattern[str]) -> str:
        parts, at = [], 0
        for match in member.finditer(text):
            if match.start() < at:
                continue  # inside a value that is already gone
            parts.append(text[at : match.end()] + f'"{REDACTED}"')
            at = _end_of_value(text, match.end())
        return "".join(parts) + text[at:]


def _end_of_value(text: str, start: int) -> int:
    """Return where the JSON value at *start* ends; the end of the text if it is cut off."""
    try:
        end: int = _json_decoder.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return len(text)
    return end
