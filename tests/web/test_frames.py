"""Facts about llmsnap.web.frames."""

from __future__ import annotations

import base64
import json

import pytest

from llmsnap.web.frames import Frame, LogPiece, envelope, lost, named, split_utf8, wrapped


def test_an_envelope_is_byte_for_byte_what_clients_of_the_original_read() -> None:
    frame = LogPiece("proxy", b"[INFO] hello\n").envelope()
    assert frame.sse() == (
        b"event:message\n"
        b'data:{"type":"logData",'
        b'"data":"{\\"data\\":\\"[INFO] hello\\\\n\\",\\"source\\":\\"proxy\\"}"}\n'
        b"\n"
    )


def test_a_named_frame_has_a_name_an_id_where_it_has_one_and_plain_json() -> None:
    assert named("swap", {"id": 4}, "7f-1-2").sse() == (
        b'event: swap\nid: 7f-1-2\ndata: {"id":4}\n\n'
    )
    assert named("preload", {"a": "ä\n"}).sse() == 'event: preload\ndata: {"a":"ä\\n"}\n\n'.encode()


def test_over_a_websocket_an_envelope_is_itself_and_a_named_frame_an_object() -> None:
    one = envelope("modelStatus", [])
    assert one.text() == one.data == '{"type":"modelStatus","data":"[]"}'
    assert json.loads(named("swap", {"id": 4}, "7f-1-2").text()) == {
        "event": "swap",
        "id": "7f-1-2",
        "data": {"id": 4},
    }
    assert json.loads(named("preload", {}).text()) == {"event": "preload", "data": {}}


def test_a_document_that_is_json_already_is_wrapped_as_it_is() -> None:
    assert wrapped("metrics", "[1]").data == '{"type":"metrics","data":"[1]"}'


def test_a_piece_of_a_log_is_text_in_one_form_and_bytes_in_the_other() -> None:
    piece = LogPiece("upstream", b"\xff ok\x1b[0m")
    inner = json.loads(json.loads(piece.envelope().data)["data"])
    assert inner == {"data": "\ufffd ok\x1b[0m", "source": "upstream"}
    shown = json.loads(piece.named().data)
    assert base64.b64decode(shown["data"]) == b"\xff ok\x1b[0m"
    assert list(shown) == ["data", "source"]


def test_readers_share_what_was_encoded() -> None:
    piece = LogPiece("proxy", b"x")
    assert piece.envelope() is piece.envelope()
    assert piece.named() is piece.named()
    frame = named("swap", {})
    assert frame.sse() is frame.sse()


def test_a_loss_is_a_line_and_a_number() -> None:
    piece = lost("proxy", 4711)
    assert b"4711 bytes of log dropped" in piece.data
    assert json.loads(piece.named().data)["dropped"] == 4711


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"", b""),
        (b"abc\n", b""),
        ("ä".encode(), b""),
        (b"a" + "ä".encode()[:1], b"\xc3"),
        ("€".encode(), b""),
        (b"a" + "€".encode()[:2], b"\xe2\x82"),
        ("🦙".encode()[:3], b"\xf0\x9f\xa6"),
        ("🦙".encode(), b""),
        (b"\x80\x80\x80\x80\x80", b""),
        (b"\xff", b"\xff"),
        (b"\xffa", b""),
    ],
)
def test_characters_are_not_cut_in_two(data: bytes, rest: bytes) -> None:
    assert split_utf8(data) == (data.removesuffix(rest), rest)


def test_a_frame_shows_what_it_is() -> None:
    assert repr(Frame("swap", "{}", "1")) == "<Frame swap 1, 2 characters>"
