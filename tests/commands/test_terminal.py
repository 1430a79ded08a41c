import io

import pytest

from llmsnap.commands.terminal import Colour, Terminal, bar, duration


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_and_a_line_that_changes(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    out = Screen()
    terminal = Terminal(out, {"TERM": "xterm"})
    terminal.status("one")
    terminal.status("x" * 50)  # it never wraps
    terminal.line(terminal.paint("done", Colour.GREEN))
    assert out.getvalue() == f"\r\x1b[Kone\r\x1b[K{'x' * 9}\r\x1b[K\x1b[32mdone\x1b[0m\n"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"NO_COLOR": "1"}, "done"),
        ({"TERM": "xterm", "NO_COLOR": "yes"}, "done"),
        ({"NO_COLOR": ""}, "\x1b[32mdone\x1b[0m"),
    ],
)
def test_no_colours_where_they_are_not_wanted(environ: dict[str, str], said: str) -> None:
    terminal = Terminal(Screen(), environ)
    assert (terminal.is_live, terminal.paint("done", Colour.GREEN)) == (True, said)


@pytest.mark.parametrize(("out", "environ"), [(io.StringIO(), {}), (Screen(), {"TERM": "dumb"})])
def test_a_file_and_a_dumb_terminal_get_plain_lines(out, environ) -> None:
    terminal = Terminal(out, environ)
    terminal.status("half way")
    terminal.table([("MODEL", "STATE"), ("llama", "ready")])
    assert out.getvalue() == "MODEL  STATE\nllama  ready\n"


def test_colours_do_not_disturb_the_columns() -> None:
    out = Screen()
    Terminal(out, {}).table([("a", "ready", "x"), ("b", "starting", "y")])
    assert out.getvalue().splitlines() == [
        "a  \x1b[32mready\x1b[0m     x",
        "b  \x1b[33mstarting\x1b[0m  y",
    ]


def test_a_bar_is_filled_as_far_as_told() -> None:
    shown = {-1: "----", 0: "----", 0.5: "##--", 1: "####", 9: "####"}
    assert {share: bar(share, 4) for share in shown} == shown


def test_durations_are_said_as_people_do() -> None:
    said = {0: "0.0 s", 9.94: "9.9 s", 119: "119 s", 300: "5 min", 7300: "2 h", 200_000: "2 d"}
    assert {seconds: duration(seconds) for seconds in said} == said
