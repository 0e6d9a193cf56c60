"""What grows with the number of runs and of items, part by part: docs/explanation/scaling.md extrapolates from it.

    python benchmarks/growth.py [--runs 100 1000 10000] [--items 1319 13190 131900] [--workers 2]

Sweeps that were never run (`filling.py`) are put on an MLflow server with PostgreSQL, one after the other, and all stay
there. After each, the requests that a job and an aggregation make are timed in it; then one comparison by its items.
Prints medians.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import mlflow
import numpy as np
from filling import fill
from tracking_server import Postgres, TrackingServer

from quantexp.config import TrackingConfig
from quantexp.stats import compare
from quantexp.tracking.backend import Server
from quantexp.tracking.reader import RUNS, Reader
from quantexp.tracking.store import Store
from quantexp.tracking.tags import JOB, JOBS, PAIR

REPEATS = 5

EXPERIMENT = "made up"

SEEDS = 100
"""Of which an item's mean is taken, in the comparison of means."""


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--items", type=int, nargs="+", default=[1319, 13_190, 131_900])
    parser.add_argument("--workers", type=int, default=2, help="of the MLflow server")
    given = parser.parse_args()
    print("milliseconds, by runs in the sweep\n")
    _print_table(given.runs, _by_runs(given.runs, given.workers))
    print("\nmilliseconds of a core for one comparison, by items\n")
    _print_table(given.items, [_by_items(items) for items in given.items])


def _by_runs(sizes: list[int], workers: int) -> list[dict[str, float]]:
    found = []
    with (
        tempfile.TemporaryDirectory() as name,
        Postgres() as database,
        TrackingServer(Path(name), database.address, workers) as server,
    ):
        client = mlflow.MlflowClient(server.url)
        experiment = client.create_experiment(EXPERIMENT)
        for runs in sizes:
            print(f"making {runs} runs", file=sys.stderr)
            sweep = fill(client, server.database, experiment, server.artifacts / experiment, runs, items=24)
            found.append(_timed(_parts(server.url, Path(name), sweep), time.perf_counter))
    return found


def _parts(url: str, folder: Path, sweep: str) -> dict[str, Callable[[], object]]:
    backend = Server(url, folder, EXPERIMENT)
    store, reader = Store(TrackingConfig(str(folder), EXPERIMENT, uri=url)), Reader(backend)
    children = f"tags.`mlflow.parentRunId` = '{sweep}'"
    tags = next(
        reader.search(f"{children} and tags.quant = 'Q0' and tags.task = 'task0' and tags.seed = '0'")
    ).data.tags

    return {
        "whether a job has finished before": lambda: store.finished_job(tags[JOB]),
        "the baseline of a job": lambda: store.find_baseline(tags[PAIR], "Q0", {}, sweep),
        "the files of the jobs, listed": lambda: backend.names(sweep, JOBS),
        f"a page of {RUNS} runs": lambda: list(islice(reader.search(children), RUNS)),
    }


def _by_items(items: int) -> dict[str, float]:
    random = np.random.default_rng(0)
    before, after = (random.random(items) < share for share in (0.6, 0.58))
    seeds = [random.binomial(SEEDS, share, items) / SEEDS for share in (0.6, 0.58)]
    graded = random.random((2, items))
    scores = {
        "right or wrong": (before.astype(float), after.astype(float)),
        f"means of {SEEDS} seeds": (seeds[0], seeds[1]),
        "graded, no two alike": (graded[0], graded[1]),
    }
    return _timed({name: partial(compare, *pair) for name, pair in scores.items()}, time.process_time)


def _timed(parts: Mapping[str, Callable[[], object]], clock: Callable[[], float]) -> dict[str, float]:
    """Return the median over the repeats, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(REPEATS):
        for name, part in parts.items():
            started = clock()
            part()
            seconds[name].append(clock() - started)
    return {name: 1000 * median(each) for name, each in seconds.items()}


def _print_table(sizes: list[int], columns: list[dict[str, Any]]) -> None:
    print(f"| | {' | '.join(f'{size:,}' for size in sizes)} |")
    print("|---|" + "---:|" * len(sizes))
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:,.{0 if column[name] > 10 else 1}f}' for column in columns)} |")


if __name__ == "__main__":
    main()
