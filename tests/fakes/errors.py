"""What an error tells an admin, beyond the message that everyone may read."""

import re
from collections.abc import Callable

from llmsnap.errors import in_full


def says(pattern: str) -> Callable[[BaseException], bool]:
    """For ``pytest.raises(check=...)``: the message with its detail has *pattern*."""
    return lambda error: re.search(pattern, in_full(error)) is not None
