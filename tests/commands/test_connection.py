import argparse
from pathlib import Path

import pytest

from llmsnap.commands import ps
from llmsnap.commands.client import Client
from llmsnap.commands.connection import connect
from llmsnap.errors import WrongUse


def args(*argv: str) -> argparse.Namespace:
    return ps.build_parser().parse_args(argv)


def key_of(client: Client) -> str:
    return client._headers.get("Authorization", "")


@pytest.mark.parametrize(
    ("argv", "environ", "url"),
    [
        ([], {}, "http://127.0.0.1:8080"),
        ([], {"LLMSNAP_URL": "http://box:1/"}, "http://box:1"),
        (["--url", "https://x/llm/"], {"LLMSNAP_URL": "http://box:1"}, "https://x/llm"),
    ],
)
def test_the_address_is_of_the_option_then_of_the_variable(
    argv: list[str], environ: dict[str, str], url: str
) -> None:
    assert connect(args(*argv), environ).url == url


@pytest.mark.parametrize("url", ["box:8080", "ftp://box", "http://", "/tmp/socket"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(WrongUse, match=r"must be like http://127\.0\.0\.1:8080"):
        connect(args("--url", url), {})


def test_an_address_holds_no_key() -> None:
    with pytest.raises(WrongUse, match="LLMSNAP_API_KEY") as caught:
        connect(args("--url", "http://me:s3cret@box"), {})
    assert "s3cret" not in str(caught.value)


def test_the_key_is_of_the_files_or_of_the_variable(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("k1\n")
    two.write_text("k2\n")
    environ = {"LLMSNAP_KEY_FILE": str(two)}
    assert key_of(connect(args(), {})) == ""
    assert key_of(connect(args(), environ)) == "Bearer k2"
    assert key_of(connect(args(), {**environ, "LLMSNAP_API_KEY": "k3"})) == "Bearer k3"
    both = {**environ, "LLMSNAP_API_KEY": "k3"}
    assert key_of(connect(args("--key-file", str(one)), both)) == "Bearer k1"


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe"])
def test_a_key_file_that_is_none_is_told_without_its_content(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(WrongUse, match="the key file") as caught:
        connect(args("--key-file", str(file)), {})
    assert "two words" not in str(caught.value)


def test_files_that_are_missing_are_told() -> None:
    with pytest.raises(WrongUse, match="/no/key cannot be read: No such file"):
        connect(args("--key-file", "/no/key"), {})
    with pytest.raises(WrongUse, match="no such file: /no/ca"):
        connect(args("--ca-file", "/no/ca"), {})


def test_no_option_takes_a_key() -> None:
    for word in ("--key", "--api-key", "--token"):
        with pytest.raises(SystemExit):
            args(word, "secret")
