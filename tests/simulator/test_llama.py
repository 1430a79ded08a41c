import pytest

TEXT = "You said: hello\nI am m, a simulated model."


def test_a_completion_has_timings(sim):
    answer = sim.post("/completion", {"model": "m", "prompt": "hello"}).json
    assert answer["content"] == TEXT
    assert answer["stop"] is True
    assert answer["timings"]["prompt_n"] == 1
    assert answer["timings"]["predicted_n"] == 9


def test_a_completion_streamed_ends_with_timings(sim):
    body = {"model": "m", "prompt": "hello", "stream": True}
    *frames, last = [data for _, data in sim.post("/completion", body).events]
    assert "".join(frame["content"] for frame in frames) == TEXT
    assert not any(frame["stop"] for frame in frames)
    assert (last["stop"], last["timings"]["predicted_n"]) == (True, 9)


@pytest.mark.parametrize(("limit", "count", "kind"), [(2, 2, "limit"), (-1, 9, "eos")])
def test_the_limit_of_tokens(sim, limit, count, kind):
    answer = sim.post("/completion", {"model": "m", "prompt": "hello", "n_predict": limit}).json
    assert (answer["tokens_predicted"], answer["stop_type"]) == (count, kind)


def test_infill_reads_before_and_after(sim):
    body = {"input_prefix": "a", "input_suffix": "b c"}
    assert sim.post("/infill", body).json["tokens_evaluated"] == 3


def test_several_completions_come_as_a_list(sim):
    body = {"input_prefix": "a", "input_suffix": "b", "n_cmpl": 2}
    answer = sim.post("/infill", body).json
    assert [each["index"] for each in answer] == [0, 1]
    assert "timings" in answer[-1]


@pytest.mark.parametrize("path", ["/completion", "/infill"])
def test_without_a_prompt_it_is_refused(sim, path):
    assert sim.post(path, {}).status == 400


def test_health_waits_for_the_model(sim):
    assert sim.get("/health").json == {"status": "ok"}
    sim.state.loaded.clear()
    assert sim.get("/health").status == 503


def test_what_it_says_of_itself(serve):
    sim = serve(model="m", n_ctx=77)
    assert sim.get("/props").json["default_generation_settings"]["n_ctx"] == 77
    assert [each["id"] for each in sim.get("/v1/models").json["data"]] == ["m"]
