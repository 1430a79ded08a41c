from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from tests.web.serving import Site, app_of, site
from tests.web.watched import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def client(world: World) -> FlaskClient:
    return app_of(lambda: world.service).test_client()


@pytest.fixture(scope="module")
def here(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The site of the configuration TEXT of the module."""
    with site(request.module.TEXT) as made:
        yield made
