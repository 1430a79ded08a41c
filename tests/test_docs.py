"""The documents say what the program does."""

import re
from pathlib import Path

import pytest

from llmsnap.upstream import states

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_the_state_table_is_the_programs_own() -> None:
    text = (ROOT / "docs/lifecycle.md").read_text()
    shown = text.partition("<!-- states -->\n")[2].partition("\n<!-- /states -->")[0]
    assert shown == states.table()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://", "mailto:", "#")):
            continue
        path = page.parent / target.partition("#")[0]
        if not path.exists():
            missing.append(target)
    assert missing == []
