from llmsnap.http.headers import best_encoding, only_encodings, prefers_text, weights

WEIGHTS = {
    "": [],
    "gzip": [("gzip", 1.0)],
    "GZip;q=0.5, br": [("gzip", 0.5), ("br", 1.0)],
    "a; x=1 ; q=0.25,,b;q=": [("a", 0.25), ("b", 1.0)],
    "a;q=0, b;q=7, c;q=nan": [("a", 0.0), ("b", 1.0), ("c", 1.0)],
}


def test_an_accept_header_is_a_list_of_weights() -> None:
    assert {header: weights(header) for header in WEIGHTS} == WEIGHTS


AS_TEXT = {
    "": False,
    "*/*": False,
    "text/plain": True,
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": True,
    "application/json, text/plain, */*": False,
    "application/json;q=0.5, text/plain": True,
    "text/plain;q=0.5, application/json": False,
    "text/plain;q=0": False,
    "text/event-stream": False,
}


def test_json_unless_the_client_would_rather_have_text() -> None:
    assert {accept: prefers_text(accept) for accept in AS_TEXT} == AS_TEXT


CHOSEN = {
    "br, gzip": "br",
    "gzip, deflate": "gzip",
    "": "",
    "gzip;q=1.0, br;q=0.5": "br",
    "browser": "",
    "br;q=0, gzip": "gzip",
    "*": "br",
    "*;q=0": "",
    "*, br;q=0": "gzip",
}


def test_the_encoding_of_a_file_is_the_servers_first_that_the_client_takes() -> None:
    assert {accept: best_encoding(accept, ("br", "gzip")) for accept in CHOSEN} == CHOSEN


def test_encodings_are_cut_down_to_those_allowed() -> None:
    allowed = {"gzip", "deflate"}
    assert only_encodings("GZIP;q=0.5 , br;q=1, deflate, *", allowed) == "GZIP;q=0.5, deflate"
    assert only_encodings("br, *", allowed) == only_encodings("", allowed) == ""
