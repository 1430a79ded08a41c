import pytest

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def says(sim):
    answer = sim.post("/v1/chat/completions", CHAT)
    return answer.json["choices"][0]["message"]["content"] if answer.status == 200 else None


def test_it_sleeps_and_wakes(serve):
    sim = serve(memory=1)
    assert sim.post("/sleep?level=2").status == 200
    assert sim.get("/is_sleeping").json == {"is_sleeping": True}
    assert sim.state.describe()["memory_bytes"] == 0
    assert says(sim) is None
    assert sim.post("/wake_up").status == 200
    assert sim.get("/is_sleeping").json == {"is_sleeping": False}
    assert sim.state.describe()["memory_bytes"] == 1 << 20
    assert "hello" in says(sim)


def test_it_wakes_part_by_part(sim):
    sim.post("/sleep")
    sim.post("/wake_up?tags=weights")
    assert says(sim) is None
    sim.post("/wake_up?tags=kv_cache")
    assert "hello" in says(sim)


@pytest.mark.parametrize("level", ["3", "0.5", "deep"])
def test_a_level_that_does_not_exist_is_refused(sim, level):
    assert sim.post(f"/sleep?level={level}").status == 400
    assert not sim.state.asleep


def test_a_sleep_or_wake_that_fails_changes_nothing(serve):
    sim = serve(fail_sleep=True)
    assert sim.post("/sleep").status == 500
    assert "hello" in says(sim)
    sim = serve(fail_wake=True, sleep_time=0.001, wake_time=0.001)
    assert sim.post("/sleep").status == 200
    assert sim.post("/wake_up").status == 500
    assert sim.get("/is_sleeping").json["is_sleeping"]


def test_after_a_bad_wake_it_says_garbage_until_the_weights_are_reloaded(serve):
    sim = serve(corrupt_after_wake=True)
    sim.post("/wake_up")
    assert "hello" in says(sim), "it was awake"
    sim.post("/sleep")
    sim.post("/wake_up")
    assert "hello" not in says(sim)
    assert sim.post("/collective_rpc", {"method": "reload_weights"}).status == 200
    assert "hello" in says(sim)


def test_inference_can_fail_while_it_is_healthy(serve):
    sim = serve(fail=True)
    assert sim.post("/v1/completions", {"prompt": "x"}).status == 500
    assert sim.get("/health").status == 200


def test_answers_can_differ_harmlessly(serve):
    sim = serve(recase_after_wake=True)
    before = says(sim)
    sim.post("/sleep")
    sim.post("/wake_up")
    assert says(sim) != before
    assert says(sim).lower().split() == before.lower().split()
    sim = serve(vary=True)
    assert says(sim) != says(sim)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"method": "other"}'])
def test_other_remote_calls_are_refused(sim, body):
    assert sim.post("/collective_rpc", body).status == 400


def test_it_can_die_instead(serve):
    sim = serve(die_on_sleep=True, die_on_wake=True, exit_code=7)
    sim.post("/sleep")
    sim.post("/wake_up")
    assert sim.left == [7, 7]


def test_a_sleep_can_hang(serve):
    sim = serve(hang_sleep=True)
    connection = sim.begin("/sleep")
    assert sim.state.asleep
    connection.close()
    assert sim.line_with("client gone").startswith("POST /sleep 499")


def test_the_other_endpoints(sim):
    assert sim.post("/reset_prefix_cache").status == 200
    assert sim.post("/wake_up_fail").status == 500
    assert sim.get("/sleep").status == 405
