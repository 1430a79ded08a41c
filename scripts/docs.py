"""Writes the generated parts of the documentation: the tables of routes in docs/api.md.

A generated part is enclosed in ``<!-- routes: GROUP -->`` and ``<!-- end of routes -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from llmsnap.http.routes import table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
PART = re.compile(r"(<!-- routes: (\w+) -->\n).*?(<!-- end of routes -->)", re.DOTALL)


def generated(text: str) -> str:
    """Return *text* with the tables updated from the route table."""
    return PART.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", text)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is up to date\n")


if __name__ == "__main__":
    main()
