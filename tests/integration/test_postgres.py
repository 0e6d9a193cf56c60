"""A tracking server on a real PostgreSQL: both are killed at random times, and nothing is lost."""

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from running import until
from tests.support.tracking_servers import TrackingServer
from tracking_server import Postgres

from quantexp.tracking.outbox import NUMBER

pytestmark = pytest.mark.integration

Start = Callable[..., subprocess.Popen[str]]

KILLS = 6
"""So many, and then they are left alone: a sweep gives up on a server that is away whenever it asks."""

Items = dict[tuple[str, ...], pd.DataFrame]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Postgres) -> Iterator[TrackingServer]:
    with TrackingServer(tmp_path_factory.mktemp("server"), database.address) as running:
        yield running


def sweep(server: TrackingServer, experiment: str, cache: Path) -> tuple[str, ...]:
    return (
        "-m", "quant=Q8_0,Q3_K_M", "task=gsm8k,extraction", "seed=0,1", "task.limit=4", "task.max_tokens=64",
        "engine.lanes=4",
        f"model.cache={cache}", "tracking=server", f"tracking.uri={server.url}", f"tracking.experiment={experiment}",
    )  # fmt: skip


def items(server: TrackingServer, experiment: str) -> Items:
    """The item table of each finished job."""
    tables = {}
    for run in server.runs("job", experiment):
        if run.info.status == "FINISHED":
            name = tuple(run.data.tags[key] for key in ("task", "quant", "seed"))
            assert name not in tables
            tables[name] = pd.read_parquet(server.client.download_artifacts(run.info.run_id, "items.parquet"))
    return tables


@pytest.fixture(scope="module")
def undisturbed(
    server: TrackingServer, start: Start, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Items]:
    """The table and the items of a sweep that nothing happened to."""
    process = start(tmp_path_factory.mktemp("undisturbed"), "quantexp", *sweep(server, "undisturbed", cache))
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    return out.partition("Declared before")[0], items(server, "undisturbed")


def check(server: TrackingServer, experiment: str, out: str, undisturbed: tuple[str, Items]) -> None:
    table, expected = undisturbed
    assert out.partition("Declared before")[0] == table
    found = items(server, experiment)
    assert found.keys() == expected.keys()
    for name, each in found.items():
        pd.testing.assert_frame_equal(each, expected[name])


def test_servers_killed_at_random_times_lose_nothing(
    server: TrackingServer,
    database: Postgres,
    undisturbed: tuple[str, Items],
    tmp_path: Path,
    start: Start,
    cache: Path,
) -> None:
    chance = random.Random(seed := random.SystemRandom().randrange(10**6))
    process = start(tmp_path, "quantexp", *sweep(server, "killed", cache))
    ended = threading.Event()
    kills: Counter[str] = Counter()

    def kill() -> None:
        until("the sweep", lambda: ended.is_set() or bool(list(tmp_path.glob("mlruns/outbox/*"))))
        while kills.total() < KILLS and not ended.wait(chance.uniform(0.5, 15)):
            victim = chance.choice(["server", "database", "both"])
            kills[victim] += 1
            if victim != "database":
                server.kill()
            if victim != "server":
                database.kill()
            ended.wait(chance.uniform(0, 12))
            if victim != "server":
                database.start()
            if victim != "database":
                server.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        out, err = process.communicate(timeout=1800)
    finally:
        ended.set()
        killer.join()
    assert process.returncode == 0, f"seed {seed}: {err}"
    assert "Traceback" not in err
    assert sum(kills.values()) >= 3, kills
    check(server, "killed", out, undisturbed)
    runs = server.runs("job", "killed")
    assert len({run.data.tags[NUMBER] for run in runs}) == len(runs) == 8
    assert {run.info.status for run in server.runs("sweep", "killed")} == {"FINISHED"}
    assert not list(tmp_path.glob("mlruns/outbox/*"))


def test_everything_killed_at_once_and_the_same_command_again(
    server: TrackingServer,
    database: Postgres,
    undisturbed: tuple[str, Items],
    tmp_path: Path,
    start: Start,
    cache: Path,
) -> None:
    process = start(tmp_path, "quantexp", *sweep(server, "again", cache))
    until("a finished job", lambda: "FINISHED" in {run.info.status for run in server.runs("job", "again")})
    server.kill()
    time.sleep(4)
    os.kill(process.pid, signal.SIGKILL)
    database.kill()
    process.communicate()
    database.start()
    server.start()
    process = start(tmp_path, "quantexp", *sweep(server, "again", cache))
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    check(server, "again", out, undisturbed)
    assert "RUNNING" not in {run.info.status for kind in ("job", "sweep") for run in server.runs(kind, "again")}
    assert not list(tmp_path.glob("mlruns/outbox/*"))
