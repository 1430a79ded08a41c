import pytest

from llmsnap.config.settings import ApiKey
from tests.config.reading import advice, config, problem, problems


@pytest.mark.parametrize("text", ["", "apiKeys:", "apiKeys: []"])
def test_no_keys_mean_no_authentication(text: str) -> None:
    assert config(text).api_keys == ()


def test_keys_are_texts_or_scoped() -> None:
    keys = config(
        """
        apiKeys:
          - static
          - 12345
          - "${env.KEY}"
          - "tab\\there"
          - {key: "${env.KEY}-2", name: Ann, models: ["llama-*"], admin: true}
          - {key: scoped}
        """,
        KEY="from-env",
    ).api_keys
    assert keys == (
        ApiKey("static"),
        ApiKey("12345"),
        ApiKey("from-env"),
        ApiKey("tab\there"),
        ApiKey("from-env-2", name="Ann", models=("llama-*",), admin=True),
        ApiKey("scoped", admin=False),
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('[""]', "apiKeys[0]: an empty key was found"),
        ("[~]", "apiKeys[0]: an empty key was found"),
        ('["valid", "", "x"]', "apiKeys[1]: an empty key was found"),
        ('["   "]', "apiKeys[0]: an empty key was found"),
        ('["${env.EMPTY}"]', "an empty key was found"),
        ("[${env.EMPTY}]", "an empty key was found"),
        ('[" a"]', "keys cannot contain spaces"),
        ('["a "]', "keys cannot contain spaces"),
        ('["a b"]', "keys cannot contain spaces"),
        ("[{name: x}]", "apiKeys[0].key: an empty key was found"),
        ("[{key: ~}]", "apiKeys[0].key: an empty key was found"),
        ("[{key: a, admin: 5}]", "apiKeys[0].admin: must be true or false"),
        ("[[a]]", "apiKeys[0]: must be a key"),
        ("a", "apiKeys: must be a list"),
        ("{a: b}", "apiKeys: must be a list"),
    ],
)
def test_no_slip_opens_the_door(keys: str, words: str) -> None:
    assert words in problem(f"apiKeys: {keys}", EMPTY="")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("[a, a]", "apiKeys[1]: this key was given before"),
        ("[{key: a, models: []}]", "apiKeys[0].models: this key may use no model"),
        ('["${K}"]', "apiKeys[0]: macros are not expanded in keys"),
        ("[{key: a, adminn: true}]", 'apiKeys[0].(hidden): unknown key - did you mean "admin"?'),
    ],
)
def test_odd_keys_are_advised_about(keys: str, words: str) -> None:
    text = f"apiKeys: {keys}\nmacros: {{K: x}}"
    assert [words in each for each in advice(text)] == [True]
    assert config(text).api_keys[0].key in ("a", "${K}")


def test_trusted_proxies_are_addresses_or_networks() -> None:
    found = config("trustedProxies: [10.0.0.1, ' 10.0.0.0/8 ', '::1']").trusted_proxies
    assert found == ("10.0.0.1", "10.0.0.0/8", "::1")
    assert problems("trustedProxies: [proxy.lan, 300.1.1.1]") == [
        f'trustedProxies[{index}]: "{name}" is not an IP address or network - '
        "write it like 10.0.0.1 or 10.0.0.0/8"
        for index, name in enumerate(["proxy.lan", "300.1.1.1"])
    ]
