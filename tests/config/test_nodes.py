import pytest

from llmsnap.config.nodes import (
    Mapping,
    Node,
    Report,
    Scalar,
    Sequence,
    describe,
    dotted,
    find_node,
    is_null,
)
from llmsnap.config.yaml import compose


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("startPort",), "startPort"),
        (("models", "a/b:c", "aliases", 0), "models.a/b:c.aliases[0]"),
    ],
)
def test_a_path_is_written_with_dots(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


def test_the_deepest_node_on_a_path_is_found() -> None:
    root = compose("a:\n  b: [1, 2]\n", {}, Report())
    assert repr(find_node(root, ("a", "b", 1))) == "<Scalar '2' 2:10>"
    assert repr(find_node(root, ("a", "b", 7))) == "<Sequence of 2 2:6>"
    assert repr(find_node(root, ("a", "x", "y"))) == "<Mapping ['b'] 2:3>"
    assert find_node(None, ("a",)) is None


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (Scalar("5", 1, 1, plain=True), "5"),
        (Scalar("5", 1, 1, plain=False), '"5"'),
        (Scalar("", 1, 1, plain=True), "nothing"),
        (Scalar("x" * 100, 1, 1, plain=True), "x" * 57 + "..."),
        (Sequence([], 1, 1), "a list"),
        (Mapping(1, 1), "a mapping"),
    ],
)
def test_what_was_found_is_described(node: Node, text: str) -> None:
    assert describe(node) == text


def test_only_unquoted_words_stand_for_nothing() -> None:
    assert is_null(None)
    assert is_null(Scalar("~", 1, 1, plain=True))
    assert not is_null(Scalar("", 1, 1, plain=False))
    assert not is_null(Sequence([], 1, 1))
