"""What the compiler made of the hot path, where it is compiled (make compiled)."""

import importlib
from types import ModuleType

import pytest

from llmsnap.installation import EXTENSION, HERE

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def compiled() -> list[ModuleType]:
    found = [
        path.relative_to(HERE.parent).as_posix().removesuffix(EXTENSION).replace("/", ".")
        for path in HERE.rglob(f"*{EXTENSION}")
    ]
    if not found:
        pytest.skip("nothing is compiled here")
    return [importlib.import_module(name) for name in found]


def test_nothing_can_point_to_an_instance_that_has_gone(compiled: list[ModuleType]) -> None:
    # The classes the compiler laid out do not clear weak references, so they must not have any:
    # one that a library keeps (as logging does of its handlers) would point into freed memory.
    classes = {one for module in compiled for one in vars(module).values() if isinstance(one, type)}
    laid_out = [one for one in classes if "__internal_mypyc_setup" in vars(one)]
    assert len(laid_out) > 50
    assert [one for one in laid_out if one.__weakrefoffset__] == []
