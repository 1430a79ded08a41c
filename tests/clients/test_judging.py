import pytest

from tests.clients.__main__ import CASES, CAUSE, Cell, Client

LOADS, CANNOT_START, FAILS, DIES = CASES
TEXT = "You said: hello\nI am sdk-whole-loads-12-s, a simulated model."


@pytest.mark.parametrize(
    ("case", "text", "error", "asked", "is_right"),
    [
        (LOADS, TEXT, "", 1, True),
        (LOADS, TEXT[:-1], "", 1, False),
        (LOADS, None, "a parser's", 1, False),
        (CANNOT_START, None, f"502: {CAUSE}", 1, True),
        (CANNOT_START, None, f"502: {CAUSE}", 2, False),
        (CANNOT_START, None, f"502: {CAUSE}", 0, False),
        (FAILS, None, "502", 1, False),
        (FAILS, "", "", 1, False),
        (DIES, None, "broke off", 3, True),
        (DIES, "You said", "", 1, False),
    ],
)
def test_a_cell_is_green_only_when_its_client_did_well(case, text, error, asked, is_right) -> None:
    wrong = Cell(Client("sdk", ("sdk",)), case, "whole").judge(text, error, asked)
    assert (not wrong) == is_right
