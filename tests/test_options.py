import pytest

from llmsnap.errors import BadRequest
from llmsnap.options import Options, from_environ
from tests.parity import parity


def test_every_option_has_a_twin_in_the_environment() -> None:
    names = {"CONFIG": "x.yaml", "WATCH_CONFIG": "true", "DRAIN_TIMEOUT": "2.5", "DEBUG": "0"}
    names |= {"LOG_FORMAT": "json", "TLS_CERT": "a"}
    found = from_environ({"OTHER": "1", **{f"LLMSNAP_{name}": names[name] for name in names}})
    options = Options(**found)
    assert (options.config, options.watch_config, options.drain_timeout) == ("x.yaml", True, 2.5)
    assert (options.debug, options.log_format, options.tls) == (False, "json", False)
    assert Options(tls_cert_file="a", tls_key_file="b").tls


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [("LLMSNAP_WATCH_CONFIG", "maybe", "true or false"), ("LLMSNAP_DRAIN_TIMEOUT", "x", "number")],
)
def test_a_value_that_does_not_fit_is_named(name: str, value: str, what: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} must be a?.*{what}"):
        from_environ({name: value})
    with pytest.raises(BadRequest, match="text or json, not 'xml'"):
        Options(log_format="xml")
    for seconds in (-1.0, float("inf"), float("nan")):
        with pytest.raises(BadRequest, match=f"drain timeout must be .*, not {seconds:g}"):
            Options(drain_timeout=seconds)


def test_a_misspelt_certificate_is_no_server_without_tls() -> None:
    assert from_environ({"LLMSNAP_TLS_CERT": "a", "LLMSNAP_TLS_KEY": "b"}) == {
        "tls_cert_file": "a",
        "tls_key_file": "b",
    }
    for name in ("LLMSNAP_TLS_CERTFILE", "LLMSNAP_TLS_CRT_FILE", "LLMSNAP_TLS"):
        with pytest.raises(BadRequest, match=f"{name} is not known.*LLMSNAP_TLS_CERT_FILE"):
            from_environ({name: "x"})
    kubernetes = {
        "LLMSNAP_PORT": "tcp://10.0.0.1:80",
        "LLMSNAP_SERVICE_HOST": "10.0.0.1",
        "LLMSNAP_TLS_PORT": "tcp://10.0.0.1:443",
        "LLMSNAP_TLS_SERVICE_HOST": "10.0.0.1",
    }
    assert from_environ(kubernetes) == {}


@parity(
    "`-config-dir`", "beside or instead of `-config`; one is required", "`config.yaml` without both"
)
def test_where_a_configuration_is() -> None:
    assert Options().config_paths == ("config.yaml", "")
    assert Options(config="a.yaml").config_paths == ("a.yaml", "")
    assert Options(config_dir="d").config_paths == ("", "d")
    assert Options(config="a.yaml", config_dir="d").config_paths == ("a.yaml", "d")
