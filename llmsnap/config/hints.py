"""What to do about unknown keys that other programs have, or that belong elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from llmsnap.suggestions import folded

_TIME_TO_LOAD = dict.fromkeys(
    ("timeout", "readytimeout", "starttimeout", "startuptimeout", "loadtimeout"),
    'did you mean "healthCheckTimeout"?',
)
_CONTEXT = dict.fromkeys(
    ("context", "contextsize", "contextlength", "ctx", "ctxsize", "nctx"),
    "write capabilities: {context: TOKENS}",
)
_LISTEN = dict.fromkeys(("listen", "port", "host", "address"), "use the --listen option")


def top_hints(model_keys: Iterable[str]) -> dict[str, str]:
    """Return hints for unknown keys at the top of the file, by folded name.

    *model_keys* are the keys of a model.
    """
    return {
        **_placed(model_keys, "below a model"),
        "ttl": 'did you mean "globalTTL"?',
        **_TIME_TO_LOAD,
        **_LISTEN,
    }


def model_hints(top_keys: Iterable[str]) -> dict[str, str]:
    """Return hints for unknown keys of a model, by folded name.

    *top_keys* are the keys at the top of the file.
    """
    return {**_placed(top_keys, "at the top of the file"), **_TIME_TO_LOAD, **_CONTEXT}


def _placed(names: Iterable[str], where: str) -> dict[str, str]:
    return {folded(name): f"write {name} {where}" for name in names}
