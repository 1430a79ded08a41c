"""Facts about llmsnap.web.front: what is answered before Flask is imported, and after."""

from __future__ import annotations

import subprocess
import sys

import pytest
from werkzeug.test import Client

from llmsnap.web.front import Front
from tests.web.serving import site

TEXT = 'models: {a: {cmd: x, proxy: "http://localhost:1"}}'

WITHOUT_FLASK = """
import llmsnap._monkey, sys
from llmsnap.cli import main
import llmsnap.server.run, llmsnap.service, llmsnap.web.front
print("flask" in sys.modules, "jinja2" in sys.modules, "jsonschema" in sys.modules)
"""


@pytest.fixture
def front():
    with site(TEXT) as made:
        yield Front(lambda: made.service)


def test_what_the_server_imports_before_it_listens_has_no_flask() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_FLASK], check=True, capture_output=True, text=True
    )
    assert told.stdout.split() == ["False"] * 3


def test_health_and_inference_do_not_wait_for_flask(front) -> None:
    client = Client(front)
    assert client.get("/health").text == "OK"
    assert client.post("/v1/embeddings").status_code == 200
    assert front._application is None


def test_the_first_request_for_flask_brings_it(front) -> None:
    assert Client(front).get("/api/version").status_code == 200
    made = front._application
    assert made is not None
    front.warm_up()
    assert front._application is made


def test_it_can_be_there_before_somebody_asks(front) -> None:
    front.warm_up()
    assert front._application is not None
    assert Client(front).get("/running").status_code == 200
