"""Build backend (PEP 517): setuptools, and with LLMSNAP_COMPILE=1 the requirements for compiling.

Compiling needs mypy and the type stubs it reads, in the versions of ``scripts/constraints.txt``:
another mypy may generate other code. A pure build needs neither.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 - the other hooks are setuptools' own
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

COMPILERS = ("mypy", "msgspec", "types-gevent")
CONSTRAINTS = Path(__file__).with_name("constraints.txt")


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return the requirements of building a wheel beside setuptools."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *compilers()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """Return the requirements of an editable installation beside setuptools."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *compilers()]


def compilers() -> list[str]:
    """Return the pinned requirements for compiling; none for a pure build."""
    if not os.environ.get("LLMSNAP_COMPILE"):
        return []
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in COMPILERS]
