"""Facts about llmsnap.wire.memo."""

from llmsnap.wire.memo import Memo


def test_at_first_nothing_is_known_and_only_what_has_a_place_can_be_kept() -> None:
    memo = Memo()
    assert (memo.read, memo.admitted, memo.sent) == (None, None, None)
    assert not hasattr(memo, "__dict__")
