"""A tracking server for all tests of this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.tracking_servers import TrackingServer

from quantexp.config import TrackingConfig
from quantexp.tracking.store import Store


@pytest.fixture(scope="session")
def server(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A real MLflow server; each test has an experiment of its own, and one that kills it starts it again."""
    folder = tmp_path_factory.mktemp("server")
    Store(TrackingConfig(str(folder / "any")))
    shutil.copyfile(cache / "empty.db", folder / "server.db")  # MLflow's tables, made with the first store
    with TrackingServer(folder) as running:
        yield running
