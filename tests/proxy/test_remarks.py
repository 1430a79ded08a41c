"""Facts about llmsnap.proxy.loading."""

import json
import random

import pytest

from llmsnap.errors import ChildExited
from llmsnap.proxy.loading import LOADING_MESSAGES, LoadingStateFrames


@pytest.fixture
def state() -> LoadingStateFrames:
    return LoadingStateFrames("llama", "r-1", random.Random(7))


def deltas(frames: bytes) -> list[dict]:
    assert frames.endswith(b"\n\n")
    chunks = [json.loads(line[6:]) for line in frames.split(b"\n\n") if line]
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert (chunk["id"], chunk["model"]) == ("chatcmpl-r-1", "llama")
    return [chunk["choices"][0]["delta"] for chunk in chunks]


def text(frames: bytes) -> str:
    return "".join(delta["reasoning_content"] for delta in deltas(frames))


def test_it_begins_with_a_role_and_a_title(state) -> None:
    assert deltas(state.first())[0]["role"] == "assistant"
    assert "llmsnap loading model: llama\n" in text(state.first())


def test_dots_until_a_remark_is_due_and_dots_again(state) -> None:
    shown = [text(state.tick(float(second), None)) for second in range(1, 40)]
    remarks = [one.strip() for one in shown if one != "."]
    assert 4 <= len(remarks) <= 8
    assert set(remarks) <= set(LOADING_MESSAGES)
    assert len(set(remarks)) == len(remarks), "none comes twice in a row"
    assert shown[0] == "."


def test_the_place_in_the_queue_is_delivered_when_it_changes(state) -> None:
    assert text(state.tick(1.0, 3)) == "\nplace 3 in the queue\n"
    assert text(state.tick(1.0, 3)) == "."
    assert text(state.tick(1.0, 2)) == "\nplace 2 in the queue\n"
    assert text(state.tick(1.0, 1)) == ".", "nobody is before the first"


def test_it_ends_with_how_long_it_took_or_what_went_wrong(state) -> None:
    assert "Done! (1.50s)" in text(state.end(1.5, None))
    failed = text(state.end(1.5, ChildExited("exit code 3")))
    assert "Unable to swap model err: exit code 3" in failed
    assert "Done" not in failed
