"""docs/api.md names every operation, and no other."""

import json
import re
from pathlib import Path

import pytest

from llmsnap.web.openapi import WHY
from llmsnap.web.operations import OPERATIONS

PAGE = (Path(__file__).parent.parent.parent / "docs/api.md").read_text()
NAMED = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^` ?]*)")


def test_the_page_has_every_operation_and_no_other() -> None:
    there_are = {(one.method.upper(), one.path) for one in OPERATIONS}
    assert set(NAMED.findall(PAGE)) == there_are


def test_the_page_explains_every_status_an_operation_may_answer() -> None:
    explained = {int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    of_their_own = {422}  # told where it occurs
    assert set(WHY) - of_their_own <= explained


@pytest.mark.parametrize("example", re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
def test_an_example_is_json(example: str) -> None:
    assert json.loads(example)


def test_its_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
    for file in re.findall(r"\]\(([\w.-]+\.md)", PAGE):
        assert (Path(__file__).parent.parent.parent / "docs" / file).is_file()
