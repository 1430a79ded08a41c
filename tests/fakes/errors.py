"""Checks of an error's detail, which only admins may read."""

import re
from collections.abc import Callable

from llmsnap.errors import in_full


def says(pattern: str) -> Callable[[BaseException], bool]:
    """Return a check for ``pytest.raises``: the message with its detail matches *pattern*."""
    return lambda error: re.search(pattern, in_full(error)) is not None
