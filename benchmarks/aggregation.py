"""Aggregating many runs, against `mlflow.search_runs` and the same tables downloaded one by one.

    python benchmarks/aggregation.py [--runs 100 1000] [--items 1319] [--server [--workers 2]] [--profile]

The runs are made up (`filling.py`): ten quants and up to ten tasks, the rest are seeds. They are in a folder, or with
--server on an MLflow server with PostgreSQL, which are started here and run on the same cores; nothing is left of them.

Prints seconds, the seconds of a core that the process which aggregates, one of its own, and the servers have taken, and
that process's peak memory; what the seconds went into; and the ratio to two others. The floor is what the server takes
to hand over the same files to someone who throws them away. The reference is measured on some runs and extrapolated.
"""

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import urllib3
from filling import fill
from tracking_server import Postgres, TrackingServer

from quantexp.config import StatsConfig, TrackingConfig
from quantexp.tracking.reader import FILES_AT_ONCE
from quantexp.tracking.store import Store
from quantexp.tracking.tags import ITEMS, JOBS

Servers = Mapping[str, TrackingServer | Postgres]
"""What a store is behind, by name; nothing, if it is a folder."""

SAMPLE = 200
"""Runs on which the reference is measured."""

EXPERIMENT = "made up"

PARTS = {
    "read the runs": ("quantexp.aggregate", "finished_jobs"),
    "statistics": ("quantexp.comparison.pairing", "summarise"),
    "changed answers": ("quantexp.comparison.changed_answers", "add_changed_answers"),
    "write the report": ("quantexp.report", "write_report"),
    "describe the sweep": ("quantexp.report.mlflow_pages", "show_in_mlflow"),
    "describe the jobs": ("quantexp.report.mlflow_pages", "describe_jobs"),
}
"""What an aggregation does, and the function that does it."""


def main() -> None:
    """Make the runs, then measure each way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000])
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--server", action="store_true", help="PostgreSQL and an MLflow server, instead of a folder")
    parser.add_argument("--workers", type=int, default=2, help="of the MLflow server")
    parser.add_argument("--profile", action="store_true", help="show what the aggregation's time goes into")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "WHERE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        {"aggregate": _aggregate, "floor": _floor, "reference": _reference, "profile": _profile}[given.measure[0]](
            json.loads(given.measure[1])
        )
        return
    for runs in given.runs:
        with tempfile.TemporaryDirectory() as name, _filled(Path(name), given, runs) as (where, servers):
            _measure(where, given, runs, servers)


@contextmanager
def _filled(folder: Path, given: argparse.Namespace, runs: int) -> Iterator[tuple[dict[str, str], Servers]]:
    """Yield the place of a store with a sweep in it, for a process that measures, and the servers behind it."""
    started = time.perf_counter()
    if given.server:
        with Postgres() as database, TrackingServer(folder, database.address, given.workers) as server:
            client = mlflow.MlflowClient(server.url)
            experiment = client.create_experiment(EXPERIMENT)
            sweep = fill(client, server.database, experiment, server.artifacts / experiment, runs, given.items)
            print(f"\nmade {runs} runs of {given.items} items in {time.perf_counter() - started:.0f} s", flush=True)
            where = {"uri": server.url, "experiment": experiment, "sweep": sweep, "folder": str(folder)}
            yield where, {"the server": server, "its database": database}
        return
    store = Store(TrackingConfig(str(folder / "mlruns")))
    sweep = fill(store.client, store.uri, store.experiment, folder / "mlruns" / "artifacts", runs, given.items)
    print(f"\nmade {runs} runs of {given.items} items in {time.perf_counter() - started:.0f} s", flush=True)
    yield {"uri": store.uri, "experiment": store.experiment, "sweep": sweep, "folder": str(folder)}, {}


def _measure(where: dict[str, str], given: argparse.Namespace, runs: int, servers: Servers) -> None:
    seconds = {}
    for what in (
        *(["floor"] if given.server else []),
        "reference",
        "aggregate",
        *(["profile"] if given.profile else []),
    ):
        command = [sys.executable, __file__, "--measure", what, json.dumps(where)]
        before = {name: server.cpu_seconds() for name, server in servers.items()}
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        if what == "profile":
            print(run.stdout)
            continue
        found = json.loads(run.stdout.splitlines()[-1])
        seconds[what] = found["seconds"] * (runs / found["runs"] if what == "reference" else 1)
        about = ""
        if what == "aggregate":
            worked = {"": found["cpu"]}
            worked |= {f" {name}": server.cpu_seconds() - before[name] for name, server in servers.items()}
            cores = " +".join(f"{name} {took:.1f}" for name, took in worked.items())
            about = f", seconds of a core:{cores}; {found['memory']:.0f} MB at the peak"
        print(f"{what:18} {seconds[what]:7.1f} s{about}", flush=True)
        for part, took in found.get("parts", {}).items():
            print(f"  {part:16} {took:7.1f} s")
    print(f"ratio              {seconds['reference'] / seconds['aggregate']:7.1f} times as fast as the reference")
    if given.server:
        print(f"                   {seconds['aggregate'] / seconds['floor']:7.1f} times the floor", flush=True)


def _store(where: dict[str, str]) -> Store:
    uri = None if where["uri"].startswith("sqlite") else where["uri"]
    experiment = "quantexp" if uri is None else EXPERIMENT
    return Store(TrackingConfig(str(Path(where["folder"]) / "mlruns"), experiment, uri=uri))


def _aggregate(where: dict[str, str]) -> None:
    from quantexp.aggregate import aggregate

    started, worked = time.perf_counter(), time.process_time()
    parts: dict[str, float] = {}
    for part, (module, name) in PARTS.items():
        __import__(module)
        of = vars(sys.modules[module])
        of[name] = _timed(of[name], part, parts)
    with redirect_stdout(StringIO()):
        aggregate(StatsConfig(baseline="Q0"), _store(where), where["sweep"], [], Path(where["folder"]) / "report")
    _told(started, parts=parts, cpu=time.process_time() - worked)


def _timed(function: Callable[..., Any], part: str, parts: dict[str, float]) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            parts[part] = time.perf_counter() - started

    return timed


def _floor(where: dict[str, str]) -> None:
    """List the files of the sweep's jobs, and fetch each; no more."""
    started = time.perf_counter()
    pool = urllib3.PoolManager(maxsize=FILES_AT_ONCE)
    place = f"{where['experiment']}/{where['sweep']}/artifacts"
    base = f"{where['uri']}/api/2.0/mlflow-artifacts/artifacts"

    found = pool.request("GET", base, fields={"path": f"{place}/{JOBS}"}).json().get("files", [])
    names = [f"{JOBS}/{each['path']}" for each in found]

    def fetched(name: str) -> bytes:
        return pool.request("GET", f"{base}/{place}/{name}").data

    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        _told(started, read=sum(threads.map(lambda name: len(fetched(name)), names)))


def _reference(where: dict[str, str]) -> None:
    mlflow.set_tracking_uri(where["uri"])
    started = time.perf_counter()
    found = mlflow.search_runs(
        [where["experiment"]], f"tags.mlflow.parentRunId = '{where['sweep']}'", max_results=SAMPLE
    )
    with tempfile.TemporaryDirectory() as place:
        for run in found["run_id"]:
            path = mlflow.artifacts.download_artifacts(run_id=run, artifact_path=f"{ITEMS}.parquet", dst_path=place)
            pd.read_parquet(path, columns=["item_id", "cluster", "score"])
    _told(started, runs=len(found))


def _profile(where: dict[str, str]) -> None:
    profile = cProfile.Profile()
    with redirect_stdout(StringIO()):
        profile.runcall(_aggregate, where)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


def _told(started: float, **more: Any) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - started, "memory": memory, **more}))


if __name__ == "__main__":
    main()
