import pytest


def test_the_state(sim):
    state = sim.get("/sim/state").json
    assert (state["loaded"], state["in_flight"], state["requests"]) == (True, 0, 0)


def test_requests_are_remembered_without_health_and_the_like(sim):
    sim.get("/health")
    sim.get("/sim/state")
    sim.post("/sleep?level=1")
    sim.post("/collective_rpc", {"method": "reload_weights"})
    seen = sim.get("/sim/requests").json
    assert [(each["method"], each["target"]) for each in seen] == [
        ("POST", "/sleep?level=1"),
        ("POST", "/collective_rpc"),
    ]
    assert seen[1]["body"] == '{"method": "reload_weights"}'


def test_options_change_while_it_runs(sim):
    answer = sim.post("/sim/options", {"fail_sleep": True, "tokens": 3, "wake_time": 0})
    assert answer.json["fail_sleep"] is True
    assert sim.post("/sleep").status == 500
    sim.post("/sim/options", {"fail_sleep": False})
    assert sim.post("/sleep").status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"port": 1},
        {"nonsense": 1},
        {"hang": 1},
        {"tokens": "3"},
        {"tokens": True},
        {"tokens": -1},
        {"wake_time": True},
        {"hang": True, "tokens": -1},
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(sim, change):
    before = sim.state.options
    assert sim.post("/sim/options", change).status == 400
    assert sim.state.options == before
