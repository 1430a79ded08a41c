import pytest

from llmsnap.simulator.options import SimOptions, parse


def test_each_option_has_its_field():
    options = parse(["--port", "9", "--load-time", "1.5", "--load-mode=503", "--hang"])
    assert options == SimOptions(port=9, load_time=1.5, load_mode="503", hang=True)


@pytest.mark.parametrize(
    "argv",
    [
        ["--nonsense"],
        ["--por", "80"],
        ["--port", "65536"],
        ["--tokens", "-1"],
        ["--load-time", "nan"],
        ["--load-mode", "open"],
        ["--exit-code", "256"],
        ["stray"],
    ],
)
def test_what_it_does_not_know_ends_with_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
