"""The size report and compaction."""

import errno
import fcntl
import os
import resource
from contextlib import nullcontext
from pathlib import Path

import pytest
from filelock import FileLock
from tests.support.store_worker import add, expected, key

from quantexp.store import CompactReport, CompletionStore, Share, StoreReport, compact, maintenance, report, segments
from quantexp.util.errors import UserError

KEYS = [key(number) for number in range(30)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jsonl"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two segments that nobody writes to: 20 records, 5 of them twice, and 2 damaged ones."""
    for numbers in (range(10), range(5, 20)):
        with CompletionStore(tmp_path) as writer:
            add(writer, numbers)
    first, last = (tmp_path / name for name in names(tmp_path))
    first.write_bytes(b"\0\0\0\n" + first.read_bytes())
    last.write_bytes(last.read_bytes() + b"torn")
    return tmp_path


def lines_of(folder: Path) -> list[bytes]:
    return [line for name in names(folder) for line in (folder / name).read_bytes().splitlines(keepends=True)]


def test_the_report_counts_everything_once(store: Path) -> None:
    sizes = [(store / name).stat().st_size for name in names(store)]
    sound = sorted({line for line in lines_of(store) if line.endswith(b"}\n")})
    by = tuple(
        Share("m", quant, 10, sum(len(line) for line in sound if f'"quant":"{quant}"'.encode() in line))
        for quant in ("Q0", "Q1")
    )
    reclaimable = sum(sizes) - sum(map(len, sound))
    assert report(store) == StoreReport(2, 0, 25, 20, 5, 2, sum(sizes), reclaimable, by)
    with CompletionStore(store) as writer:
        add(writer, range(3))
        writer.add(key(99), expected(range(1))[key(0)], {})
        counts = report(store)
    # What is in a segment that is being written to stays there.
    assert (counts.segments, counts.live, counts.records, counts.distinct) == (3, 1, 29, 21)
    assert counts.reclaimable == reclaimable
    assert counts.by[0] == Share("", "", 1, len(lines_of(store)[-1]))


def test_compaction_keeps_each_record_once_and_as_it_was(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, reclaimable, old = lines_of(store), report(store).reclaimable, names(store)
    assert compact(store) == CompactReport(2, 0, 20, 5, 2, reclaimable)
    [name] = names(store)
    assert name < old[0]
    assert lines_of(store) == list(dict.fromkeys(line for line in before if line.endswith(b"}\n")))
    assert CompletionStore(store).lookup(KEYS) == expected(range(20))
    assert not caplog.records
    assert report(store).reclaimable == 0
    # Nothing is left to gain.
    assert compact(store) == CompactReport(0, 0, 20, 0, 0, 0)
    assert names(store) == [name]


def test_compaction_copies_piece_by_piece(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "CHUNK_BYTES", 50)
    compact(store)
    assert CompletionStore(store).lookup(KEYS) == expected(range(20))


def test_a_segment_that_is_being_written_to_is_left_alone(store: Path) -> None:
    with CompletionStore(store) as writer:
        add(writer, range(20, 25))
        assert compact(store).live == 1
        add(writer, range(25, 30))
        assert len(names(store)) == 2
        assert writer.lookup(KEYS) == expected(range(30))
    assert compact(store).segments == 2
    assert len(names(store)) == 1
    assert CompletionStore(store).lookup(KEYS) == expected(range(30))


def test_segments_with_nothing_sound_go(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.jsonl").write_bytes(b"garbage")
    assert compact(tmp_path) == CompactReport(2, 0, 0, 0, 1, 7)
    assert names(tmp_path) == []
    assert compact(tmp_path) == CompactReport(0, 0, 0, 0, 0, 0)
    assert report(tmp_path) == StoreReport(0, 0, 0, 0, 0, 0, 0, 0, ())


def test_what_a_killed_compaction_left_is_removed(store: Path) -> None:
    (store / f"x{maintenance.PART}").write_bytes(b"half")
    compact(store)
    assert not list(store.glob(f"*{maintenance.PART}"))


def test_a_copy_that_is_not_sound_replaces_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lines_of(store)
    monkeypatch.setattr(maintenance, "_copy", lambda source, places, target: target.write(b"wrong\n"))
    with pytest.raises(OSError, match="Input/output"):
        compact(store)
    assert lines_of(store) == before
    assert not list(store.glob(f"*{maintenance.PART}"))


def test_a_second_compaction_is_refused_in_a_sentence(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "LOCK_SECONDS", 0.05)
    with FileLock(store / maintenance.LOCK), pytest.raises(UserError, match=r"compacting .* try again"):
        compact(store)
    assert len(names(store)) == 2


def test_without_locks_nothing_is_compacted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        patch.setattr(maintenance, "FileLock", lambda *_, **__: nullcontext())
        assert report(store).live == 2
        with pytest.raises(UserError, match="no locks"):
            compact(store)
    assert len(names(store)) == 2


def test_many_segments_need_many_open_files(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lines = [segments.encode(name, one, {}) for name, one in expected(range(30)).items()]
    for number in range(300):
        (tmp_path / f"{number}.jsonl").write_bytes(lines[number % 30])
    limit = sum(1 for _ in Path("/dev/fd").iterdir()) + 150  # other tests of this process may have some open
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        assert compact(tmp_path).segments == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert CompletionStore(tmp_path).lookup(KEYS) == expected(range(30))


@pytest.mark.parametrize("verb", [report, compact])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, verb: type) -> None:
    with pytest.raises(FileNotFoundError):
        verb(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_an_idle_writer_is_alive(tmp_path: Path) -> None:
    with CompletionStore(tmp_path) as writer:
        add(writer, range(3))
        [path] = tmp_path.glob("*.jsonl")
        with segments.open_descriptor(path) as descriptor:
            assert segments.claim(descriptor, fcntl.LOCK_SH) is False
