"""Aggregating many runs, against `mlflow.search_runs` and the same tables downloaded one by one.

    python benchmarks/aggregation.py [--runs 1000] [--items 24] [--profile]

Prints seconds, the ratio, and the peak memory of each, in a process of its own. The runs are made up: ten quants and
up to ten tasks, the rest are seeds; their item tables have the columns of a job's.
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
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from quantexp.config import StatsConfig, TrackingConfig
from quantexp.tracking import IDENTITY, ITEMS, KIND, Store

QUANTS, TASKS = 10, 10
WORDS = "The answer is forty-two, as every step above shows. "


def main() -> None:
    """Make the runs, then measure each way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--profile", action="store_true", help="show what the aggregation's time goes into")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "FOLDER", "SWEEP"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        what, folder, sweep = given.measure
        {"aggregate": _aggregate, "reference": _reference, "profile": _profile}[what](Path(folder), sweep)
        return
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        sweep = _fill(Path(name), given.runs, given.items)
        print(f"made       {given.runs} runs of {given.items} items in {time.perf_counter() - started:.0f} s")
        seconds = {}
        for what in ("reference", "aggregate", *(["profile"] if given.profile else [])):
            command = [sys.executable, __file__, "--measure", what, name, sweep]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            if what == "profile":
                print(run.stdout)
                continue
            found = json.loads(run.stdout)
            seconds[what] = found["seconds"]
            print(f"{what:10} {found['seconds']:6.1f} s, {found['memory']:5.0f} MB at the peak")
        print(f"ratio      {seconds['aggregate'] / seconds['reference']:.2f} of search_runs and a download a table")


def _fill(folder: Path, runs: int, items: int) -> str:
    store = Store(TrackingConfig(str(folder / "mlruns")))
    random = np.random.default_rng(0)
    sweep = store.start(f"sweep of {runs}", "sweep", None, {"model": "m", "data": "made up"})
    for number in range(runs):
        quant, task, seed = number % QUANTS, number // QUANTS % TASKS, number // (QUANTS * TASKS)
        ids = [f"item-{each:05d}" for each in range(items)]
        table = pd.DataFrame(
            {
                "item_id": ids,
                "cluster": ids,
                "sample": 0,
                "difficulty": "easy",
                "prompt": [f"{each}: {WORDS * 8}" for each in ids],
                "output": [f"{each}: {WORDS * 4}" for each in ids],
                "reference": "42",
                "extracted": [str(each) for each in random.integers(40, 44, items)],
                "score": (random.random(items) < 0.6 - 0.02 * quant).astype(float),
                "grading_error": None,
                "finish_reason": "stop",
                "prompt_tokens": 100,
                "completion_tokens": 60,
                "mean_logprob": -0.5,
            }
        )
        tags = {"model": "m", "quant": f"Q{quant}", "task": f"task{task}", "data": "made up", "seed": str(seed)}
        identity = {
            aspect: json.dumps({"id": "g-v1", "fingerprint": f"{task:064d}", "version": 1})
            for aspect in ("model", "data", "prompt", "grader", "settings")
        }
        named = {"quantexp.version": "0", "quantexp.commit": "0", "quantexp.dirty": "false", "engine.system": "none"}
        tags |= {IDENTITY + aspect: text for aspect, text in identity.items()} | named | {"host.processor": "none"}
        with store.start(f"{task} {quant} {seed}", "job", sweep.id, tags) as run:
            run.log(
                params={"file.sha256": f"{quant:064d}", **{f"key.{each}": each for each in range(60)}},
                metrics={
                    **{"score": float(table["score"].mean()), "items": items, "items_in_data": items},
                    **{"items_not_asked": 0, "items_cut_at_max_tokens": 0, "completion_tokens": 60 * items},
                    **{"bits_per_weight": 9.0 - 0.5 * quant, "model_bytes": 1e8, "run.tokens_per_second": 50.0},
                },
            )
            run.log_table(table, ITEMS)
    sweep.close("FINISHED")
    return sweep.id


def _aggregate(folder: Path, sweep: str) -> None:
    from quantexp.aggregate import aggregate

    started = time.perf_counter()
    with redirect_stdout(StringIO()):
        store = Store(TrackingConfig(str(folder / "mlruns")))
        aggregate(StatsConfig(baseline="Q0"), store, sweep, [], folder / "report")
    _told(started)


def _reference(folder: Path, sweep: str) -> None:
    import mlflow

    started = time.perf_counter()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    found = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.mlflow.parentRunId = '{sweep}'", max_results=50_000
    )
    assert set(found[f"tags.{KIND}"]) == {"job"}
    tables = []
    with tempfile.TemporaryDirectory() as place:
        for run in found["run_id"]:
            path = mlflow.artifacts.download_artifacts(run_id=run, artifact_path=f"{ITEMS}.parquet", dst_path=place)
            tables.append(pd.read_parquet(path, columns=["item_id", "cluster", "score"]))
    _told(started)


def _profile(folder: Path, sweep: str) -> None:
    profile = cProfile.Profile()
    with redirect_stdout(StringIO()):
        profile.runcall(_aggregate, folder, sweep)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


def _told(started: float) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - started, "memory": memory}))


if __name__ == "__main__":
    main()
