import json

import pytest
from gevent import subprocess

from tests.e2e.harness import ROOT, sys

PROGRAM = """
import os, json
before = len(os.listdir("/proc/self/fd"))
from llmsnap import wsgi
from flask import Flask
facts = {"flask": isinstance(wsgi.app, Flask), "opened": wsgi._service is not None}
client = wsgi.app.test_client()
facts["health"] = client.get("/health").status_code
facts["opened later"] = wsgi._service is not None
facts["once"] = wsgi.open_service() is wsgi.open_service()
wsgi.close_service()
print(json.dumps(facts))
"""


@pytest.mark.e2e
def test_importing_builds_the_application_and_the_first_request_opens_the_service(tmp_path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("logToStdout: none\n")
    env = {"LLMSNAP_CONFIG": str(config), "LLMSNAP_STATE_DIR": str(tmp_path), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True
    )
    assert json.loads(done.stdout) == {
        "flask": True,
        "opened": False,
        "health": 200,
        "opened later": True,
        "once": True,
    }
