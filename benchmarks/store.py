"""A store of a million records: loading it against reading its bytes, and against an SQLite table of the same lines."""

import hashlib
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from quantexp.store import Completion, CompletionStore, report

RECORDS = 1_000_000
SEGMENTS = 8
LOOKUPS = 20_000
DATABASE = "reference.sqlite"


def main() -> None:
    """Make the records, then measure each way of reading them in a process of its own."""
    if len(sys.argv) == 3:
        _COMMANDS[sys.argv[1]](Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        _fill(folder)
        added = time.perf_counter() - started
        size = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
        print(f"made      {RECORDS} records, {size / RECORDS:.0f} bytes each; {RECORDS / added:.0f} added per second")
        _copy_to_sqlite(folder)
        for command in _COMMANDS:  # one after another on the same warm files
            subprocess.run([sys.executable, __file__, command, name], check=True)


def _key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def _wanted() -> list[bytes]:
    return [_key(int(number)) for number in np.random.default_rng(0).integers(0, RECORDS, LOOKUPS)]


def _fill(folder: Path) -> None:
    words = "The answer is forty-two, as every step above shows. " * 5
    tokens = tuple(range(1000, 1060))
    logprobs = tuple(np.linspace(-3, 0, 60, dtype=np.float32).tolist())
    for segment in range(SEGMENTS):
        with CompletionStore(folder) as store:
            for number in range(segment, RECORDS, SEGMENTS):
                record = Completion(tokens, logprobs, f"{number}: {words}", "stop", 0.25, 1.5)
                store.add(_key(number), record, {"model": "m", "quant": "Q8_0", "task": "gsm8k", "item": str(number)})


def _copy_to_sqlite(folder: Path) -> None:
    def rows() -> Iterator[tuple[bytes, bytes]]:
        for path in sorted(folder.glob("*.jsonl")):
            with path.open("rb") as file:
                for line in file:
                    yield bytes.fromhex(line[:64].decode()), line

    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("CREATE TABLE records (key BLOB PRIMARY KEY, line BLOB) WITHOUT ROWID")
        database.executemany("INSERT INTO records VALUES (?, ?)", rows())


def _plain(folder: Path) -> float:
    """Seconds to read the bytes and count the lines, as `wc -l` does."""
    started = time.perf_counter()
    lines = 0
    for path in folder.glob("*.jsonl"):
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(1 << 24):
                lines += chunk.count(b"\n")
    assert lines == RECORDS
    return time.perf_counter() - started


def _store(folder: Path) -> None:
    wanted = _wanted()
    before = _peak()
    begun = time.perf_counter()
    store = CompletionStore(folder)
    store.lookup([])
    loaded = time.perf_counter()
    memory = _peak() - before
    found = store.lookup(wanted)
    ended = time.perf_counter()
    store.lookup([])
    again = time.perf_counter() - ended
    print(
        f"store     {loaded - begun:.2f} s and {memory:.0f} MB more at the peak to load, "
        f"{len(found) / (ended - loaded):.0f} lookups/s in one call, {1e6 * again:.0f} µs to see that nothing is new"
    )
    started = time.perf_counter()
    for key in wanted[:2000]:
        store.lookup([key])
    print(f"          {2000 / (time.perf_counter() - started):.0f} lookups/s one by one")
    plain = _plain(folder)
    print(f"          {plain:.2f} s to read the bytes and count lines: loading takes {(loaded - begun) / plain:.1f}x")


def _sqlite(folder: Path) -> None:
    wanted = _wanted()
    started = time.perf_counter()
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        for key in wanted:
            database.execute("SELECT line FROM records WHERE key = ?", (key,)).fetchone()
    print(f"sqlite    {LOOKUPS / (time.perf_counter() - started):.0f} lookups/s, records not decoded")


def _report(folder: Path) -> None:
    before = _peak()
    started = time.perf_counter()
    counts = report(folder)
    seconds = time.perf_counter() - started
    print(f"report    {seconds:.2f} s and {_peak() - before:.0f} MB more at the peak for {counts.distinct} records")


def _peak() -> float:
    """Return the most memory this process has used, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_COMMANDS: dict[str, Callable[[Path], None]] = {
    "store": _store,
    "sqlite": _sqlite,
    "report": _report,
}


if __name__ == "__main__":
    main()
