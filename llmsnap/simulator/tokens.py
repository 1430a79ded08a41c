"""Text as tokens, the simulator's way: a token is a word with the blanks before it."""

from __future__ import annotations

import re
from itertools import cycle, islice

_TOKEN = re.compile(r"\s*\S+|\s+")
_FILLER = " The quick brown fox jumps over the lazy dog."
_GARBAGE = " \ufffd#!\ufffd"


def split(text: str) -> list[str]:
    """Return the tokens of *text*; joined again they are *text*."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """Return how many tokens *text* has."""
    return len(split(text))


def of_length(text: str, length: int) -> list[str]:
    """Return exactly *length* tokens: those of *text*, then filler."""
    own = split(text)[:length]
    return own + list(islice(cycle(split(_FILLER)), length - len(own)))


def garbage(length: int) -> list[str]:
    """Return *length* tokens as a model with ruined weights would say them."""
    return [_GARBAGE] * length
