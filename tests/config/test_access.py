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
          - {key: pages, upstream: yes}
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
        ApiKey("pages", admin=False, upstream=True),
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
        ("[{key: a, upstream: [x]}]", "apiKeys[0].upstream: must be true or false"),
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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("apiKeys: ['${env.A}', 'x-${env.B}-${env.A}', plain]", {"A", "B"}),
        ("apiKeys: [{key: '${env.A}', name: '${env.N}', models: ['${env.N}']}]", {"A"}),
        ("apiKeys: ['${file./dev/null/${env.DIR}}']", None),
        ("x-key: &key ${env.A}\napiKeys: [*key]", {"A"}),
        ("x-one: &one {key: '${env.A}'}\napiKeys: [{<<: *one, admin: true}]", {"A"}),
        ("peers: {p: {proxy: 'http://h', models: [m], apiKey: '${env.A}'}}", {"A"}),
        (
            "macros: {K: 'k-${env.A}', L: '${K}', M: '${env.N}'}\n"
            "peers: {p: {proxy: 'http://h/${M}', models: [m], apiKey: 'x${L}'}}",
            {"A"},
        ),
        ("macros: {K: '${env.N}'}\napiKeys: [plain]", set()),
    ],
)
def test_variables_that_keys_are_made_of_are_known(text: str, names: set[str] | None) -> None:
    environ = {"A": "a", "B": "b", "N": "n", "DIR": "d"}
    if names is None:
        assert "cannot be read" in problem(text, **environ)
    else:
        assert config(text, **environ).key_variables == names


@pytest.mark.parametrize("key", ["${file.}", "${env.}", "${env.A-B}", "x${file.a{b}}", "${file.a"])
def test_a_reference_that_is_not_complete_is_no_key(key: str) -> None:
    """It would let in whoever has seen the file."""
    found = problem(f"apiKeys: ['{key}']")
    assert "the reference is not complete" in found
    assert key not in found
    assert "reference" in problem(f"apiKeys: [{{key: '{key}'}}]")
