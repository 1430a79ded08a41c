"""Tests of many drawn cases.

To draw a case with hypothesis takes longer than what is tested where a case has many parts. Here a
test draws it from a generator of random numbers. Cases that fail are not made smaller.
"""

from collections.abc import Callable
from random import Random


def cases(count: int) -> Callable[[Callable[[Random], None]], Callable[[], None]]:
    """Call a test with *count* generators, always the same; a failure names its seed."""

    def of(test: Callable[[Random], None]) -> Callable[[], None]:
        def all_cases() -> None:
            for seed in range(count):
                try:
                    test(Random(seed))
                except BaseException as error:
                    error.add_note(f"the case is that of Random({seed})")
                    raise

        all_cases.__name__, all_cases.__doc__ = test.__name__, test.__doc__
        return all_cases

    return of
