"""``llmsnap check --launcher``, against a Ray that is played."""

import io
from collections.abc import Iterator

import pytest
from gevent import socket
from gevent.server import StreamServer

from llmsnap.commands.cluster import check_launcher
from llmsnap.config import loads
from tests.launchers.fake_ray import TOKEN, FakeRay


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    made = FakeRay()
    yield made
    made.close()


def check(ray: FakeRay, name: str = "farm", token: str = TOKEN) -> tuple[bool, str]:
    out = io.StringIO()
    text = f"launchers: {{farm: {{type: ray, address: '{ray.url}', token: {token}}}}}"
    return check_launcher(loads(text, environ={}), name, out), out.getvalue()


def test_a_cluster_that_works_is_described(ray: FakeRay) -> None:
    works, text = check(ray)
    assert works, text
    assert text.rpartition(" right, within ")[0] == (
        f"farm: Ray 2.60.0 at {ray.url}, which takes the token\n"
        "farm: machine 127.0.0.1: 2 of 2 GPUs free\n"
        "farm: machine 127.0.0.2: 2 of 2 GPUs free\n"
        "farm: a job on 127.0.0.1 ended with exit code 0\n"
        "farm: its clock is"
    )
    assert ray.jobs == {}


def test_what_is_wrong_is_told(ray: FakeRay) -> None:
    found = check(ray, "farmm")
    assert found == (False, "farmm: there is no such launcher; did you mean farm?\n")
    works, text = check(ray, token="wrong")
    assert (works, "farm: Ray (farm) refuses the token: 403" in text) == (False, True)
    ray.go_down()
    works, text = check(ray)
    assert (works, "farm: Ray (farm) does not answer" in text) == (False, True)


def test_a_port_of_the_engine_for_something_else_is_told(ray: FakeRay) -> None:
    def answer(sock: socket.socket, _: object) -> None:
        sock.recv(1000)
        sock.sendall(b"\0\0\x12\4\0\n")

    other = StreamServer(("127.0.0.1", 0), answer)
    other.start()
    ray.url = f"http://127.0.0.1:{other.server_port}"
    works, text = check(ray)
    other.stop()
    assert not works
    assert "does not answer: what answers at its port is no HTTP" in text
