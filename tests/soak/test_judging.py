"""Which failures a soak tolerates."""

from __future__ import annotations

import os

import pytest

from tests.soak.clients import Incomplete, Outcome, noted, until_done
from tests.soak.figures import MARGINS, Figures, is_back, number, servers

START = Figures(8, 4, 0, 2, 0, 60.0)


@pytest.mark.parametrize(
    ("began", "killed", "model", "cut"),
    [
        (2.0, 3.0, "a", True),
        (2.0, 3.0, "b", False),
        (2.0, 1.5, "a", False),
        (2.0, 4.5, "a", False),
        (None, 3.0, "a", False),
    ],
)
def test_only_an_answer_that_had_begun_may_be_lost_with_its_server(
    began: float | None, killed: float, model: str, cut: bool
) -> None:
    outcome = Outcome("chat", "a", 1.0, began, 4.0, "broken off")
    assert outcome.was_cut_by([(killed, model)]) is cut


def test_a_comment_is_no_answer() -> None:
    outcome = Outcome("chat", "a", 1.0)
    assert list(noted(iter([b": waiting", b""]), outcome)) == []
    assert outcome.began is None
    assert list(noted(iter([b": waiting", b"data: 1"]), outcome)) == [b"data: 1"]
    assert outcome.began is not None


@pytest.mark.parametrize("lines", [[], [b"data: {}"], [b'data: {"error": 1}', b"data: [DONE]"]])
def test_a_stream_without_its_end_is_incomplete(lines: list[bytes]) -> None:
    until_done(iter([b"data: {}", b"data: [DONE]"]))
    with pytest.raises(Incomplete):
        until_done(iter(lines))


def test_each_figure_has_to_come_back() -> None:
    assert all(is_back(START, START))
    for index, margin in enumerate(MARGINS):
        values = list(START)
        values[index] += margin + 1
        assert is_back(START, Figures(*values)).index(False) == index


def test_figures_are_added_up_over_all_models() -> None:
    page = '# HELP x y\nx_total{model="a"} 1.0\nx_total{model="b"} 2.0\nother 5.0\n'
    assert number(page, r"x_total\S* (\S+)") == 3
    assert servers(os.getpid()) == {}
