from llmsnap.config.keys import all_paths
from tests.config.reference import DOCUMENT, SAME, document


def test_the_tables_are_those_of_the_schema() -> None:
    told = "run python -m tests.config.reference"
    assert DOCUMENT.read_text(encoding="utf-8") == document(), told


def test_every_key_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    paths = [path for path, _ in all_paths() if not any(part in path for part in SAME)]
    assert not [path for path in paths if f"{path.rpartition('.')[2]}`" not in text]
