import pytest

from llmsnap import __version__, cli
from llmsnap.cli import build_parser, normalize


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-config", "x"], {"config": "x"}),
        (["-config=x", "-listen", ":1"], {"config": "x", "listen": ":1"}),
        (["--watch-config"], {"watch_config": True}),
        (["-watch-config=false"], {"watch_config": False}),
        (["--watch-config", "--config", "x"], {"watch_config": True, "config": "x"}),
        (["--tls-cert", "c", "-tls-key=k"], {"tls_cert_file": "c", "tls_key_file": "k"}),
        (["--drain-timeout", "1.5"], {"drain_timeout": 1.5}),
        ([], {}),
    ],
)
def test_flags_are_read_as_go_reads_them(argv: list[str], expected: dict[str, object]) -> None:
    found = vars(build_parser().parse_args(normalize(argv)))
    assert {name: value for name, value in found.items() if name != "version"} == expected


@pytest.mark.parametrize("argv", [["--nope"], ["positional"], ["--watch-config=maybe"], ["--conf"]])
def test_wrong_use_exits_with_2(argv: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: llmsnap" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--version"], ["-version"], ["version"]])
def test_the_version_is_one_line(argv: list[str], capsys) -> None:
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.startswith(f"llmsnap {__version__}")


def test_one_file_of_a_certificate_is_not_enough(capsys) -> None:
    assert cli.main(["--tls-cert-file", "c.pem"]) == 1
    assert "--tls-key-file" in capsys.readouterr().out


def test_a_bad_configuration_is_told_in_full(tmp_path, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("startPort: 0\nlogToStdout: nowhere\n")
    assert cli.main(["--config", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Error loading config"
    assert out[1].startswith(f"{path}:1:")
    assert "startPort" in out[1]
    assert "logToStdout" in out[2]
