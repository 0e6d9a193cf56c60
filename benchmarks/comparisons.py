"""The statistics at two sizes: the published experiment beside scipy's bootstrap, and 20 million answers."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from quantexp.stats import Method, compare

QUANTS, TASKS, ITEMS = 100, 20, 10_000
RESAMPLES = 10_000
REPEATS = 5

Scores = NDArray[np.float64]


def main() -> None:
    """Measure both sizes, each in a process of its own so that the peak of memory is its own."""
    if len(sys.argv) == 3:
        _COMMANDS[sys.argv[1]](Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        _write_tables(Path(name))
        for command in _COMMANDS:
            subprocess.run([sys.executable, __file__, command, name], check=True)


def _published(_: Path) -> None:
    """3 tasks x 3 quants of 600 answers: intervals, bounds and p-values here, intervals only from scipy."""
    from scipy.stats import bootstrap

    pairs = _published_answers()
    ids = np.tile(np.arange(200), 3)
    ways: dict[str, Callable[[Scores, Scores], object]] = {
        "compare": compare,
        "compare, an item counted once": lambda before, after: compare(before, after, clusters=ids),
        "compare, method bootstrap": lambda before, after: compare(before, after, method=Method.bootstrap),
        "scipy": lambda before, after: bootstrap(
            (before - after,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(42)
        ),
        "scipy, an item counted once": lambda before, after: bootstrap(
            ((before - after).reshape(3, 200).mean(axis=0),),
            np.mean,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(42),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _repeat in range(REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            for before, after in pairs:
                way(before, after)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    print(f"published experiment, {len(pairs)} comparisons of 600 answers, median of {REPEATS}:")
    for name, median in medians.items():
        print(f"  {name:30} {1e3 * median:6.1f} ms")
    once = medians["scipy, an item counted once"] / medians["compare, an item counted once"]
    print(f"  scipy/ours {medians['scipy'] / medians['compare']:.0f}, an item counted once {once:.0f}")


def _published_answers() -> list[tuple[Scores, Scores]]:
    """Right or wrong on gsm8k and triviaqa as the published counts have it; extraction in thirds, 200 items thrice."""
    pairs = []
    for b, c in ((22, 16), (16, 16), (31, 19), (5, 8), (21, 14), (37, 18)):
        differences = np.random.default_rng(b).permutation(np.repeat([1.0, -1.0, 0.0], [b, c, 600 - b - c]))
        before = np.where(differences == 0, 1.0, np.maximum(differences, 0.0))
        pairs.append((before, before - differences))
    rng = np.random.default_rng(7)
    for changed in (0.01, 0.03, 0.06):
        thirds = rng.choice([1, 2, 3], 200, p=[0.05, 0.25, 0.7])
        lower = np.clip(thirds + rng.choice([0, -1, 1], 200, p=[1 - changed, changed / 2, changed / 2]), 0, 3)
        pairs.append((np.tile(thirds / 3, 3), np.tile(lower / 3, 3)))
    return pairs


def _table(folder: Path) -> None:
    """100 quants x 20 tasks x 10,000 items, from item tables on disk to all comparisons."""
    started = time.perf_counter()
    reading, made = 0.0, 0
    for task in range(TASKS):
        begun = time.perf_counter()
        columns = [
            pq.read_table(folder / f"task{task:02}-Q{quant:02}.parquet", columns=["score"])["score"].to_numpy()
            for quant in range(QUANTS)
        ]
        reading += time.perf_counter() - begun
        for after in columns[1:]:
            compare(columns[0], after)
            made += 1
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{QUANTS * TASKS * ITEMS:,} answers in {QUANTS * TASKS} files: read in {reading:.1f} s, "
        f"{made} comparisons in {seconds - reading:.1f} s, {seconds:.1f} s in all; "
        f"peak {peak:.0f} MB, libraries included"
    )


def _write_tables(folder: Path) -> None:
    """One file per run, as a run's item table has it; every other task is graded in thirds."""
    rng = np.random.default_rng(0)
    for task in range(TASKS):
        parts = 3 if task % 2 else 1
        ids = [f"task{task:02}/item-{item:05}" for item in range(ITEMS)]
        base = rng.integers(0, parts + 1, ITEMS)
        for quant in range(QUANTS):
            change = rng.choice([0, -1, 1], ITEMS, p=[0.94, 0.035, 0.025]) if quant else 0
            score = np.clip(base + change, 0, parts) / parts
            table = pa.table({"item_id": ids, "score": score, "seed": np.zeros(ITEMS, dtype=np.int64)})
            pq.write_table(table, folder / f"task{task:02}-Q{quant:02}.parquet")


_COMMANDS: dict[str, Callable[[Path], None]] = {"published": _published, "table": _table}


if __name__ == "__main__":
    main()
