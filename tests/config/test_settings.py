from dataclasses import FrozenInstanceError

import pytest

from llmsnap.config.settings import ApiKey, Config, Filters, GroupConfig, ModelConfig, PeerConfig


def test_a_model_needs_only_an_id_and_a_command() -> None:
    model = ModelConfig(id="llama", cmd="llama-server")
    assert (model.check_endpoint, model.concurrency_limit, model.ttl_s) == ("/health", 100, 0)


def test_an_empty_configuration_has_the_default_group() -> None:
    assert Config().groups == {"(default)": GroupConfig("(default)")}


def test_nothing_can_be_changed_later() -> None:
    config = Config()
    with pytest.raises(FrozenInstanceError):
        config.start_port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.models["x"] = ModelConfig(id="x", cmd="y")  # type: ignore[index]


def test_filters_tell_whether_they_do_anything() -> None:
    assert not Filters()
    assert Filters(strip_params=("x",))


def test_a_repr_shows_no_secret() -> None:
    model = ModelConfig(id="m", cmd="srv --api-key s3cret", env=("TOKEN=s3cret",))
    config = Config(
        models={"m": model},
        api_keys=(ApiKey("s3cret"),),
        peers={"p": PeerConfig(id="p", proxy="http://h", api_key="s3cret")},
    )
    assert "s3cret" not in repr(config)
