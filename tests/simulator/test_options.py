import pytest

from llmsnap.simulator.options import CHANGEABLE, SimOptions, parse


def test_no_option_means_the_defaults():
    assert parse([]) == SimOptions()


def test_each_option_has_its_field():
    options = parse(["--port", "9", "--load-time", "1.5", "--load-mode=503", "--hang"])
    assert options == SimOptions(port=9, load_time=1.5, load_mode="503", hang=True)


def test_what_can_be_changed_is_an_option():
    assert set(CHANGEABLE) <= set(SimOptions.__dataclass_fields__)


@pytest.mark.parametrize(
    "argv",
    [
        ["--nonsense"],
        ["--por", "80"],
        ["--port", "65536"],
        ["--port", "x"],
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
