import pytest

from llmsnap.errors import BadRequest
from llmsnap.options import Options, from_environ


def test_every_option_has_a_twin_in_the_environment() -> None:
    found = from_environ(
        {
            "LLMSNAP_CONFIG": "x.yaml",
            "LLMSNAP_WATCH_CONFIG": "true",
            "LLMSNAP_DRAIN_TIMEOUT": "2.5",
            "LLMSNAP_DEBUG": "0",
            "OTHER": "1",
        }
    )
    options = Options(**found)
    assert (options.config, options.watch_config, options.drain_timeout) == ("x.yaml", True, 2.5)
    assert options.debug is False


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [("LLMSNAP_WATCH_CONFIG", "maybe", "true or false"), ("LLMSNAP_DRAIN_TIMEOUT", "x", "number")],
)
def test_a_value_that_does_not_fit_is_named(name: str, value: str, what: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} must be a?.*{what}"):
        from_environ({name: value})


def test_tls_needs_both_files() -> None:
    assert Options(tls_cert_file="a", tls_key_file="b").tls
    assert not Options(tls_cert_file="a").tls


def test_the_log_is_written_as_text_or_json() -> None:
    assert Options(**from_environ({"LLMSNAP_LOG_FORMAT": "json"})).log_format == "json"
    with pytest.raises(BadRequest, match="text or json, not 'xml'"):
        Options(log_format="xml")
