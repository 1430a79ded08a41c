import base64
import json
import subprocess

import pytest

from llmsnap.telemetry.captures import (
    Capture,
    CapturedBody,
    capture_curl,
    capture_har,
    capture_object,
)

CHAT = Capture(
    id=3,
    req_path="/v1/chat/completions?user=a&api_key=[REDACTED]",
    req_headers={
        "Content-Type": "application/json",
        "Authorization": "[REDACTED]",
        "Content-Length": "13",
    },
    req_body=CapturedBody.of(b'{"model":"it\'s"}'),
    resp_headers={"Content-Type": "application/json"},
    resp_body=CapturedBody.of(b"{}").pack(),
    status=200,
    started_ms=1_000,
    duration_ms=12.5,
)


def test_the_published_object():
    shown = capture_object(CHAT)
    assert list(shown)[:6] == [
        "id", "req_path", "req_headers", "req_body", "resp_headers", "resp_body",
    ]  # fmt: skip
    assert base64.b64decode(shown["req_body"]) == b'{"model":"it\'s"}'
    assert base64.b64decode(shown["resp_body"]) == b"{}"
    assert shown["schema_version"] == 1


def test_curl_sends_the_same_request_without_the_secret():
    command = capture_curl(CHAT, "http://127.0.0.1:8080")
    assert command.startswith("curl -X POST 'http://127.0.0.1:8080/v1/chat/completions?user=a")
    assert "-H 'Authorization: [REDACTED]'" in command
    assert "Content-Length" not in command


@pytest.mark.parametrize(
    "body",
    [b'{"a": "it\'s $HOME `x` \\n"}', b"two\nlines", b"@file", b"nul\0byte", b"\xff\xfe", b""],
)
def test_a_shell_gives_curl_the_very_body(body, tmp_path):
    fake = tmp_path / "curl"
    fake.write_text(
        '#!/bin/sh\nfor last; do :; done\nif [ "$last" = @- ]; then exec cat; fi\n'
        'case "$*" in *--data-binary*) printf %s "$last";; esac\n'
    )
    fake.chmod(0o755)
    command = capture_curl(
        Capture(id=0, req_path="/v1/x", req_body=CapturedBody.of(body)), "http://h"
    )
    script = command.replace("curl ", f"{fake} ", 1)
    assert subprocess.run(["sh", "-c", script], check=True, capture_output=True).stdout == body


def test_curl_says_when_the_body_was_not_kept():
    missing = Capture(
        id=0, req_path="/v1/x", req_body=CapturedBody(size=9, omitted="larger than ...")
    )
    assert capture_curl(missing, "http://h").startswith("# The body is missing: larger than ...\n")


def test_har_holds_one_entry_with_text_bodies():
    har = capture_har(CHAT, "http://127.0.0.1:8080")["log"]
    (entry,) = har["entries"]
    assert (har["version"], entry["time"]) == ("1.2", 12.5)
    assert entry["startedDateTime"] == "1970-01-01T00:00:01+00:00"
    assert entry["request"]["postData"]["text"] == '{"model":"it\'s"}'
    assert entry["request"]["queryString"][0] == {"name": "user", "value": "a"}
    assert entry["response"]["content"] == {
        "size": 2,
        "mimeType": "application/json",
        "text": "{}",
    }
    json.dumps(har)


def test_har_holds_other_bodies_in_base64_and_says_what_is_missing():
    binary = Capture(
        id=0,
        req_path="/v1/x",
        req_body=CapturedBody.of(b"\xff"),
        resp_body=CapturedBody(size=5, omitted="not text (audio/wav)"),
    )
    (entry,) = capture_har(binary, "http://h")["log"]["entries"]
    assert entry["request"]["postData"]["comment"] == "base64"
    assert entry["response"]["content"]["comment"] == "not text (audio/wav)"
    assert entry["response"]["content"]["size"] == 5
