import pytest

from llmsnap.simulator import tokens


@pytest.mark.parametrize("text", ["", "one", " one  two\nthree ", "ünï ¢ode"])
def test_tokens_joined_are_the_text(text):
    assert "".join(tokens.split(text)) == text


@pytest.mark.parametrize(("text", "count"), [("", 0), ("one", 1), ("one two", 2), ("a  b\nc", 3)])
def test_a_token_is_a_word(text, count):
    assert tokens.count(text) == count


def test_a_longer_answer_goes_on_with_filler():
    assert tokens.of_length("one two", 4) == ["one", " two", " The", " quick"]


def test_a_shorter_answer_is_cut():
    assert tokens.of_length("one two three", 2) == ["one", " two"]


def test_garbage_has_the_length_asked_for_and_no_words():
    assert len(tokens.garbage(3)) == 3
    assert not any(character.isalnum() for character in "".join(tokens.garbage(3)))
