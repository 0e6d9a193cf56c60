"""A tracking server for all tests of this folder."""

from collections.abc import Iterator

import pytest
from tests.support.tracking_servers import TrackingServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A real MLflow server; each test has an experiment of its own, and one that kills it starts it again."""
    with TrackingServer(tmp_path_factory.mktemp("server")) as running:
        yield running
