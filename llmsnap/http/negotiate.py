"""What a client accepts: media types and content encodings, by the weights it gave them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

PLAIN_TYPES = ("text/plain", "text/html")


def weights(header: str) -> list[tuple[str, float]]:
    """The items of an ``Accept*`` header in its order, lower case, each with its weight.

    A weight that is not a number from 0 to 1 counts as 1, as if it were not there.
    """
    found = []
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name:
            found.append((name, _weight(parameters)))
    return found


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() != "q":
            continue
        try:
            weight = float(value)
        except ValueError:
            return 1.0
        return weight if 0 <= weight <= 1 else 1.0
    return 1.0


def prefers_text(accept: str) -> bool:
    """Whether a client with this ``Accept`` would rather read text than JSON.

    JSON wins a tie and stands for every wildcard.
    """
    if "text/" not in accept.lower():
        return False
    json = text = 0.0
    for name, weight in weights(accept):
        if name in PLAIN_TYPES:
            text = max(text, weight)
        elif name == "application/json":
            json = max(json, weight)
    return text > json


def best_encoding(accept_encoding: str, offered: Sequence[str]) -> str:
    """The first of *offered*, the server's order, that the client takes; "" for none of them."""
    taken = dict(weights(accept_encoding))
    rest = taken.get("*", 0.0)
    return next((name for name in offered if taken.get(name, rest) > 0), "")


def only_encodings(accept_encoding: str, allowed: Collection[str]) -> str:
    """The items of the header that are in *allowed*, as the client wrote them."""
    items = (item.strip() for item in accept_encoding.split(","))
    return ", ".join(i for i in items if i.split(";", 1)[0].strip().lower() in allowed)
