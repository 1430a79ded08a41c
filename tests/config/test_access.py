from itertools import product

from llmsnap.config import ApiKey
from tests.config.reading import advice, config, excerpt, problem, problems

LONG = "a-key-nobody-guesses"

KEYS = {
    "static": ApiKey("static"),
    "12345": ApiKey("12345"),
    '"${env.KEY}"': ApiKey("from-env"),
    '{key: "${env.KEY}-2", name: Ann, models: ["llama-*"], admin: true}': ApiKey(
        "from-env-2", name="Ann", models=("llama-*",), admin=True
    ),
    "{key: scoped}": ApiKey("scoped", admin=False),
    "{key: pages, upstream: yes}": ApiKey("pages", admin=False, upstream=True),
}


def test_keys_are_texts_or_scoped() -> None:
    found = {key: config(f"apiKeys: [{key}]", KEY="from-env").api_keys for key in KEYS}
    assert found == {key: (one,) for key, one in KEYS.items()}


SLIPS = {
    '[""]': "apiKeys[0]: an empty key was found",
    "[~]": "apiKeys[0]: an empty key was found",
    '["valid", "", "x"]': "apiKeys[1]: an empty key was found",
    "[${env.EMPTY}]": "an empty key was found",
    '[" a"]': "keys cannot contain spaces",
    '["a b"]': "keys cannot contain spaces",
    "[{name: x}]": "apiKeys[0].key: an empty key was found",
    "[{key: ~}]": "apiKeys[0].key: is empty",
    "[{key: a, models: }]": "apiKeys[0].models: is empty",
    "[{key: a, admin: }]": "apiKeys[0].admin: is empty",
    "[{key: a, Models: [b]}]": 'unknown key - did you mean "models"?',
    "[{key: a, adminn: true}]": 'apiKeys[0].(hidden): unknown key - did you mean "admin"?',
    "[{key: a, expires: 2030}]": "unknown key - known are key, name, models, admin",
    "[{key: a}, {key: a, models: [b]}]": "apiKeys[1]: this key was given before, with other",
    '["a\\tb"]': "keys cannot contain spaces",
    '["a\\0b"]': "keys cannot contain control characters",
    "": "apiKeys: is empty",
    "${env.EMPTY}": "apiKeys: is empty",
    "[{key: a, upstream: [x]}]": "apiKeys[0].upstream: must be true or false",
    "[[a]]": "apiKeys[0]: must be a key",
    "a": "apiKeys: must be a list",
}


def test_no_slip_opens_the_door() -> None:
    said = {keys: excerpt(problem(f"apiKeys: {keys}", EMPTY=""), SLIPS[keys]) for keys in SLIPS}
    assert said == SLIPS


ODD = {
    f"[{LONG}, {LONG}]": "apiKeys[1]: this key was given before",
    f"[{LONG}, {LONG[:15]}]": "apiKeys[1]: this key has 15 characters",
    f"[{{key: {LONG}, models: []}}]": "apiKeys[0].models: this key may use no model",
    f'["${{K}}{LONG}"]': "apiKeys[0]: macros are not expanded in keys",
}


def test_odd_keys_are_advised_about() -> None:
    for keys, words in ODD.items():
        text = f"apiKeys: {keys}\nmacros: {{K: x}}"
        assert [excerpt(each, words) for each in advice(text)] == [words]
        assert config(text).api_keys[0].key in (LONG, "${K}" + LONG)


NEAR_MISSES = [
    *("apikeys", "api_keys", "api-keys", "APIKeys", "ApiKeys", "API_KEYS", "apiKey", "api_key"),
    *("apiKyes", "apikey", "aipKeys", "appKeys", "apiKeyss", "api keys", "'apiKeys '", "api.keys"),
    *("requireApiKeys", "myAPIKeys", "apiKeyFile", "api_keys_file", "server.apiKeys"),
    *("authKeys", "accessKeys", "apiTokens", "keys", "auth", "tokens", "Authentication"),
]


def test_a_misspelt_list_of_keys_is_no_open_server() -> None:
    for value in ("[a-long-enough-key-0]", "a-long-enough-key-0", "{a: b}", ""):
        said = {name: problem(f"{name}: {value}") for name in NEAR_MISSES}
        assert {name for name in said if "apiKeys" not in said[name]} == set()
        assert "long-enough" not in str(said)


WRONG_PLACES = [
    "upstream: {NAME: VALUE}",
    "store: {NAME: VALUE}",
    "hooks: {on_startup: {NAME: VALUE}}",
    "models: {a: {cmd: 'x ${PORT}', NAME: VALUE}}",
    "groups: {g: {members: [], NAME: VALUE}}",
    "server: {NAME: VALUE}",
    "models: {NAME: VALUE}",
    "macros: {NAME: VALUE}",
    "a: 1\n---\nb: 2\n---\n  'NAME' : VALUE",
]


def test_a_list_of_keys_in_a_wrong_place_is_no_open_server() -> None:
    for place, name in product(WRONG_PLACES, ("apiKeys", "apikeys", "api_keys")):
        text = place.replace("NAME", name).replace("VALUE", "[a-long-enough-key-0]")
        assert "long-enough" not in str(problems(text))


SHUTTING = {
    "tls: {cert: a, key: b}": "tls: encrypts nothing here - use --tls-cert-file",
    "tlsCertFile: a": "use --tls-cert-file and --tls-key-file",
    "captureredact: [x]": 'did you mean "captureRedact"?',
    "capture_mask: {}": 'did you mean "captureMask"?',
    "captureBufer: 0": 'did you mean "captureBuffer"?',
    "peers: {p: {proxy: 'http://h', models: [m], apikey: s3cret}}": "peers.p.apikey",
    "peers: {p: {proxy: 'http://h', models: [m], api_key: s3cret}}": 'did you mean "apiKey"?',
}


def test_a_misspelt_key_that_shuts_something_is_an_error() -> None:
    said = {text: excerpt(problem(text), words) for text, words in SHUTTING.items()}
    assert said == SHUTTING
    for other in ("x-keys: &k [a]", "logLevle: info", "ttl: 3", "a: {b: {keys: 1}}"):
        config(other)  # at most advice


def test_trusted_proxies_are_addresses_or_networks() -> None:
    found = config("trustedProxies: [10.0.0.1, ' 10.0.0.0/8 ', '::1']").trusted_proxies
    assert found == ("10.0.0.1", "10.0.0.0/8", "::1")
    assert problems("trustedProxies: [proxy.lan, 300.1.1.1]") == [
        f'trustedProxies[{index}]: "{name}" is not an IP address or network - '
        "write it like 10.0.0.1 or 10.0.0.0/8"
        for index, name in enumerate(["proxy.lan", "300.1.1.1"])
    ]


VARIABLES = {
    "apiKeys: ['${env.A}', 'x-${env.B}-${env.A}', plain]": {"A", "B"},
    "apiKeys: [{key: '${env.A}', name: '${env.N}', models: ['${env.N}']}]": {"A"},
    "x-key: &key ${env.A}\napiKeys: [*key]": {"A"},
    "x-one: &one {key: '${env.A}'}\napiKeys: [{<<: *one, admin: true}]": {"A"},
    "peers: {p: {proxy: 'http://h', models: [m], apiKey: '${env.A}'}}": {"A"},
    (
        "macros: {K: 'k-${env.A}', L: '${K}', M: '${env.N}'}\n"
        "peers: {p: {proxy: 'http://h/${M}', models: [m], apiKey: 'x${L}'}}"
    ): {"A"},
    "macros: {K: '${env.N}'}\napiKeys: [plain]": set(),
}


def test_variables_that_keys_are_made_of_are_known() -> None:
    found = {text: config(text, A="a", B="b", N="n").key_variables for text in VARIABLES}
    assert found == VARIABLES


def test_a_reference_that_is_not_complete_is_no_key() -> None:
    """It would admit anyone who has seen the file."""
    for key in ("${file.}", "${env.}", "${env.A-B}", "x${file.a{b}}", "${file.a"):
        found = problem(f"apiKeys: ['{key}']")
        assert "the reference is not complete" in found
        assert key not in found
        assert "reference" in problem(f"apiKeys: [{{key: '{key}'}}]")
