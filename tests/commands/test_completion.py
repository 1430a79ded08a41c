import pytest

from llmsnap.commands import completion
from llmsnap.commands.catalog import COMMANDS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completion.main([shell]) == 0
    script = capsys.readouterr().out
    assert not [name for name in COMMANDS if name not in script]
    for option in ("watch-config", "key-file", "against", "concurrency", "break-stream-after"):
        assert option in script


def test_an_unknown_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        completion.main(["tcsh"])
    assert caught.value.code == 2
    assert "'bash', 'fish', 'zsh'" in capsys.readouterr().err.replace(
        "bash, fish, zsh", "'bash', 'fish', 'zsh'"
    )
