from llmsnap.config.keys import MODEL, TOP, all_paths


def test_every_key_is_declared_once() -> None:
    paths = [path for path, _ in all_paths()]
    assert len(paths) == len(set(paths))
    assert {"startPort", "models.*.filters.setParamsByID", "apiKeys[].key"} <= set(paths)
    assert "models.*.sleepEndpoints[].timeout" in paths
    assert "routing.router.settings.groups.*.members" in paths


def test_only_what_makes_the_process_restarts_it() -> None:
    assert [path for path, key in all_paths() if key.restarts] == [
        "models.*.cmd",
        "models.*.proxy",
        "models.*.env",
        "models.*.launcher",
    ]


def test_defaults_are_those_of_an_absent_section() -> None:
    assert TOP.default["startPort"] == 5800
    assert MODEL.default["timeouts"]["connect"] == 5
