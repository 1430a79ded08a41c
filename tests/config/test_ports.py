from llmsnap.config.models import assign_ports


def test_ports_follow_each_other() -> None:
    assert assign_ports(["a", "b", "c"], 9000) == {"a": 9000, "b": 9001, "c": 9002}


def test_a_kept_port_stays_wherever_it_is_and_is_not_given_twice() -> None:
    assert assign_ports(["a", "b", "c", "d"], 9000, {"b": 9000, "d": 5800}) == {
        "a": 9001,
        "b": 9000,
        "c": 9002,
        "d": 5800,
    }


def test_who_finds_none_is_left_out() -> None:
    assert assign_ports(["a", "b", "c"], 65534, {"c": 65535}) == {"a": 65534, "c": 65535}
