"""Many processes on one store, some of them killed."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import store_worker as worker
from tests.support.store_worker import expected, key

from quantexp.store import CompletionStore, report

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Start]:
    """Start a worker; what it prints goes to a file of the given name."""
    processes: list[subprocess.Popen[bytes]] = []

    def popen(out: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(worker.__file__), *map(str, arguments)]
        with (tmp_path / out).open("wb") as file:
            processes.append(subprocess.Popen(command, stdout=file))
        return processes[-1]

    yield popen
    for process in processes:
        process.kill()
        process.wait()


def told(path: Path) -> list[int]:
    """The numbers of the records that a writer says it has added."""
    return [int(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_what_was_added_survives_kill_9_and_everybody_sees_it(
    tmp_path: Path, begin: Start, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    reader = CompletionStore(store)
    outs = [tmp_path / f"out{number}" for number in range(4)]
    # The first two would go on for ever; the ranges of neighbours overlap.
    ends = [1_000_000, 1_000_000, 10_600, 15_600]
    writers = [
        begin(out.name, "write", store, str(5000 * number), str(end), "1000000")
        for number, (out, end) in enumerate(zip(outs, ends, strict=True))
    ]
    deadline = time.monotonic() + 900
    while any(len(told(out)) < 600 for out in outs):
        assert time.monotonic() < deadline
        numbers = [number for out in outs if out.exists() for number in told(out)]
        assert set(reader.lookup(map(key, numbers))) == {key(number) for number in numbers}
    for writer in writers[:2]:
        writer.kill()
    for writer in writers:
        writer.wait(300)
    assert [writer.returncode for writer in writers] == [-9, -9, 0, 0]
    numbers = [number for out in outs for number in told(out)]
    wanted = {key(number): worker.record(number) for number in numbers}
    assert reader.lookup(wanted) == wanted
    assert CompletionStore(store).lookup(wanted) == wanted
    assert report(store).live == 0
    # A line that the kill tore, at most; never one that somebody was still writing.
    assert sum(record.levelno == logging.WARNING for record in caplog.records) <= 4


def test_compactions_go_on_under_writers_and_readers(
    tmp_path: Path, begin: Start, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    with CompletionStore(store) as first:
        worker.add(first, range(50))
    outs = [tmp_path / f"out{number}" for number in range(2)]
    writers = [
        begin(out.name, "write", store, str(1000 * (number + 1)), str(1000 * (number + 1) + 600), "20")
        for number, out in enumerate(outs)
    ]
    compactor = begin("compactor", "compact_until", store, tmp_path / "stop")
    reader, lookups = CompletionStore(store), 0
    while any(writer.poll() is None for writer in writers):
        numbers = [*range(50), *(number for out in outs for number in told(out))]
        assert set(reader.lookup(map(key, numbers))) == {key(number) for number in numbers}
        lookups += 1
    (tmp_path / "stop").touch()
    assert compactor.wait(300) == 0
    assert [writer.returncode for writer in writers] == [0, 0]
    assert lookups > 1
    wanted = expected(range(50)) | expected(range(1000, 1600)) | expected(range(2000, 2600))
    assert reader.lookup(wanted) == wanted
    assert CompletionStore(store).lookup(wanted) == wanted
    counts = report(store)
    assert (counts.distinct, counts.damaged) == (1250, 0)
    assert not caplog.records


def test_a_compaction_killed_at_any_moment_loses_nothing(tmp_path: Path, begin: Start) -> None:
    store = tmp_path / "store"
    for number in range(0, 200, 50):
        with CompletionStore(store) as writer:
            worker.add(writer, range(number, number + 50))
            worker.add(writer, range(10))
    for path in list(store.glob("*.jsonl"))[:2]:
        with path.open("ab") as file:
            file.write(b"torn")
    assert begin("out", "killed_compactions", store, tmp_path / "copy").wait(300) == 0
    assert int((tmp_path / "out").read_text()) > 15  # moments to be killed at


def test_a_full_disk_costs_only_what_did_not_fit(
    tmp_path: Path, begin: Start, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    assert begin("out", "fill", store).wait(300) == 0
    [failed] = told(tmp_path / "out")
    assert 0 < failed < 20
    wanted = expected(range(failed + 5))
    assert CompletionStore(store).lookup(wanted) == wanted
    assert not caplog.records
    assert report(store).duplicates == 0


def test_a_forked_child_writes_a_segment_of_its_own(tmp_path: Path, begin: Start) -> None:
    store = tmp_path / "store"
    assert begin("out", "fork", store).wait(300) == 0
    assert len(list(store.glob("*.jsonl"))) == 2
    wanted = expected(range(15))
    assert CompletionStore(store).lookup(wanted) == wanted
    counts = report(store)
    assert (counts.records, counts.damaged, counts.live) == (15, 0, 0)
