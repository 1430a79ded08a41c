"""Facts about llmsnap.proxy.call."""

from llmsnap.proxy.call import Answer
from tests.fakes.calls import call


def test_a_call_begins_with_nothing_known_of_its_way() -> None:
    made = call()
    assert (made.requested, made.served, made.status, made.error) == ("", "", 0, "")
    assert (made.swap_id, made.first_byte_at, made.queue_s, made.load_s) == (None, None, 0.0, 0.0)
    assert made.began > 0
    assert made.key.may_use("anything"), "until the gateway has seen its key"


def test_an_answer_is_what_it_was_made_of() -> None:
    body = object()
    answer = Answer(200, "OK", [("A", "b")], body)
    assert (answer.status, answer.reason, answer.headers) == (200, "OK", [("A", "b")])
    assert answer.body is body
