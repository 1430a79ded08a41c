"""Schema, tables and example are what the declared keys give, byte for byte."""

import json

import pytest

from llmsnap.config.schema import json_schema
from scripts import reference


@pytest.mark.parametrize(
    ("path", "derived"),
    [
        (reference.SCHEMA, reference.schema),
        (reference.DOCUMENT, reference.document),
        (reference.EXAMPLE, reference.example),
    ],
)
def test_what_is_published_derives_from_the_declarations(path, derived) -> None:
    assert path.read_text(encoding="utf-8") == derived(), "run make docs"


def test_the_schema_is_at_the_root_too() -> None:
    assert json.loads((reference.ROOT / "config-schema.json").read_text()) == json_schema()
