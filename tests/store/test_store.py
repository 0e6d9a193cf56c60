"""A store in one process: looking up, adding, and what goes wrong with files."""

import errno
import fcntl
import json
import logging
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.store_worker import add, expected, key, record

from quantexp.store import Completion, CompletionStore, compact, index, segments

ALL = range(20)
KEYS = [key(number) for number in ALL]
LINES = [segments.encode(key(number), record(number), {}) for number in ALL]


@pytest.fixture(params=[1 << 16, 3], ids=["dict", "arrays"])
def _index_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "RECENT", request.param)


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


@pytest.mark.usefixtures("_index_size")
def test_what_was_added_is_found_here_and_elsewhere(tmp_path: Path) -> None:
    reader = CompletionStore(tmp_path)
    with CompletionStore(tmp_path) as store:
        for number in ALL:
            add(store, range(number, number + 1))
            assert store.lookup(KEYS) == expected(range(number + 1))
            assert reader.lookup(iter(KEYS)) == expected(range(number + 1))
        store.sync()
    assert CompletionStore(tmp_path).lookup([*KEYS, *KEYS, key(99)]) == expected(ALL)
    assert CompletionStore(tmp_path).lookup([]) == {}
    assert len(segment_files(tmp_path)) == 1


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "store") as store:
        assert store.lookup(KEYS) == {}
        store.sync()
    assert list(tmp_path.iterdir()) == []
    with CompletionStore(tmp_path / "deep" / "store") as store:
        add(store, ALL)
    before = sorted(tmp_path.rglob("*"))
    with CompletionStore(tmp_path / "deep" / "store") as store:
        assert store.lookup(KEYS) == expected(ALL)
    assert sorted(tmp_path.rglob("*")) == before


def test_close_may_be_called_twice_and_adding_begins_again(tmp_path: Path) -> None:
    store = CompletionStore(tmp_path)
    for part in (range(5), range(5, 10)):
        add(store, part)
        store.close()
        store.close()
    assert len(segment_files(tmp_path)) == 2
    assert store.lookup(KEYS) == expected(range(10))


@pytest.mark.usefixtures("_index_size")
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_records_with_one_key_the_first_by_name_counts(tmp_path: Path, order: str) -> None:
    def one(text: str) -> Completion:
        return Completion((), (), text, "stop", 0, 0)

    first = segments.encode(key(0), one("first"), {})
    reader = CompletionStore(tmp_path)
    for name in order:
        own = first if name == "a" else segments.encode(key(0), one("later"), {})
        rest = segments.encode(key(0), one("last"), {})
        (tmp_path / f"{name}.jsonl").write_bytes(own + rest + b"".join(LINES[1:]))
        reader.lookup(KEYS)
    for store in (reader, CompletionStore(tmp_path)):
        assert store.lookup(KEYS) == {**expected(ALL), key(0): one("first")}


def test_only_whole_keys_are_looked_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        CompletionStore(tmp_path).lookup([b"short"])


def test_damage_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES[0] + b"garbage\n" + LINES[1][:50] + b"\n\n" + LINES[2])
    (tmp_path / "b.jsonl").write_bytes(LINES[3] + LINES[4][:-1])
    store = CompletionStore(tmp_path)
    for _ in range(3):
        assert set(store.lookup(KEYS)) == {key(0), key(2), key(3)}
    [told] = caplog.records
    assert told.levelno == logging.WARNING
    assert f"{tmp_path}: 4;" in told.getMessage()
    assert "generated again" in told.getMessage()
    assert "compacting" in told.getMessage()
    # New damage is news; the old is not, even when everything is read anew.
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b"more garbage\n" + LINES[5])
    (tmp_path / "b.jsonl").unlink()
    assert set(store.lookup(KEYS)) == {key(0), key(2), key(5)}
    assert [": 1;" in told.getMessage() for told in caplog.records] == [False, True]


def test_a_record_that_became_unreadable_is_missing_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(LINES))
    store = CompletionStore(tmp_path)
    assert store.lookup(KEYS) == expected(ALL)
    content = bytearray(path.read_bytes())
    content[len(LINES[0]) + 90] ^= 1
    path.write_bytes(bytes(content[: -len(LINES[0])]) + LINES[0])  # in place of the last, as long or longer
    for _ in range(2):
        assert key(1) not in store.lookup(KEYS)
    assert len(caplog.records) == 1


def test_other_files_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.compacting").write_bytes(LINES[0])
    (tmp_path / "notes.txt").write_bytes(b"notes")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "empty.jsonl").touch()
    assert CompletionStore(tmp_path).lookup(KEYS) == {}
    assert not caplog.records


def test_an_unfinished_line_is_left_alone_while_its_writer_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CompletionStore(tmp_path)
    path = tmp_path / "a.jsonl"
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(LINES[0] + LINES[1][:30])
        assert store.lookup(KEYS) == expected(range(1))
        writer.write(LINES[1][30:] + LINES[2][:-1])
        assert store.lookup(KEYS) == expected(range(2))
    assert not caplog.records
    assert store.lookup(KEYS) == expected(range(2))
    assert ": 1;" in caplog.text


def test_a_writer_that_ends_its_line_just_before_it_dies_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES[0] + LINES[1][:30])

    def dies_now(_: int) -> bool:
        with path.open("ab") as writer:
            writer.write(LINES[1][30:])
        return True

    monkeypatch.setattr(segments, "has_ended", dies_now)
    assert CompletionStore(tmp_path).lookup(KEYS) == expected(range(2))
    assert not caplog.records


def test_without_locks_a_tail_counts_as_damage_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with CompletionStore(tmp_path) as store:
        add(store, range(3))
    [path] = segment_files(tmp_path)
    with path.open("ab") as file:
        file.write(LINES[3][:40])
    store = CompletionStore(tmp_path)
    assert store.lookup(KEYS) == expected(range(3))
    assert not caplog.records
    past = time.time() - 2 * segments.QUIET_SECONDS
    os.utime(path, (past, past))
    assert store.lookup(KEYS) == expected(range(3))
    assert ": 1;" in caplog.text


@pytest.mark.parametrize("can_truncate", [True, False])
def test_after_a_write_that_failed_halfway_the_next_record_stands_alone(
    tmp_path: Path, can_truncate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 100:
            return write(descriptor, data[:50])  # a short write first
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    write = os.write
    with CompletionStore(tmp_path) as store:
        add(store, range(3))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            if not can_truncate:
                patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(OSError, match="No space"):
                add(store, range(3, 4))
        assert store.lookup(KEYS) == expected(range(3))
        add(store, range(4, 10))
        wanted = {**expected(range(3)), **expected(range(4, 10))}
        assert store.lookup(KEYS) == wanted
        assert CompletionStore(tmp_path).lookup(KEYS) == wanted
        assert len(segment_files(tmp_path)) == (1 if can_truncate else 2)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    with CompletionStore(tmp_path) as store:
        add(store, ALL)
    assert CompletionStore(tmp_path).lookup(KEYS) == expected(ALL)


def test_a_segment_that_was_deleted_is_not_written_to(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "store") as store:
        add(store, range(3))
        for path in segment_files(tmp_path / "store"):
            path.unlink()
        (tmp_path / "store").rmdir()
        assert store.lookup(KEYS) == {}
        add(store, range(3, 6))
        assert store.lookup(KEYS) == expected(range(3, 6))
    assert CompletionStore(tmp_path / "store").lookup(KEYS) == expected(range(3, 6))


def test_syncs_are_seconds_apart_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(segments, "SYNC_SECONDS", 1000.0)
    store = CompletionStore(tmp_path)
    add(store, range(1))
    assert len(synced) == 1  # the folder
    add(store, range(1, 5))
    assert len(synced) == 1
    store.sync()
    assert len(synced) == 2
    monkeypatch.setattr(segments, "SYNC_SECONDS", 0.0)
    add(store, range(5, 8))
    assert len(synced) == 5
    store.close()
    assert len(synced) == 6


@pytest.mark.usefixtures("_index_size")
def test_a_compaction_between_finding_and_reading_goes_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(0, 20, 4):
        with CompletionStore(tmp_path) as store:
            add(store, range(number, number + 4))
    reader = CompletionStore(tmp_path)
    find, compactions = index.Index.find, 0

    def find_then_compact(self: index.Index, keys: Sequence[bytes]) -> dict[bytes, index.Place]:
        nonlocal compactions
        found = find(self, keys)
        compactions += bool(compact(tmp_path).segments)
        return found

    monkeypatch.setattr(index.Index, "find", find_then_compact)
    assert reader.lookup(KEYS) == expected(ALL)
    assert compactions == 1
    assert len(segment_files(tmp_path)) == 1
    assert not caplog.records


def test_a_folder_that_cannot_be_used_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with CompletionStore(tmp_path / "file") as store:
        with pytest.raises(NotADirectoryError):
            store.lookup(KEYS)
        with pytest.raises(OSError, match="file"):
            add(store, ALL)


# Records that are whole, and cannot be used


def poisoned(number: int) -> bytes:
    """A line, with a right checksum, that says that an answer had 10**40 tokens."""
    fields = json.loads(segments.encode(key(number), record(number), {"item": str(number)})[segments._JSON_START :])
    content = json.dumps(fields | {"counted": [10**40, 1]}).encode()
    head = key(number).hex().encode() + b" "
    return head + b"%08x " % zlib.crc32(head + content) + content + b"\n"


@pytest.mark.parametrize("compacted", ["never", "before", "after"])
def test_a_record_that_cannot_be_used_gives_way_to_a_new_one(
    tmp_path: Path, compacted: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):  # that of two segments: what is passed over once must not hide the next
        (tmp_path / f"20200101T000000.000000Z-{name}.jsonl").write_bytes(
            poisoned(0) + segments.encode(key(1), record(1), {})
        )
    if compacted == "before":
        compact(tmp_path)
    with CompletionStore(tmp_path) as store:
        assert set(store.lookup([key(0), key(1)])) == {key(1)}
        store.add(key(0), record(0), {})
        assert store.lookup([key(0)]) == {key(0): record(0)}
    if compacted == "after":
        assert compact(tmp_path).damaged == 2
    with CompletionStore(tmp_path) as store:
        assert store.lookup([key(0), key(1)]) == {key(0): record(0), key(1): record(1)}
        assert store.lookup([key(0)]) == {key(0): record(0)}
    assert caplog.text.count("damaged records passed over") == {"never": 2, "before": 0, "after": 1}[compacted]
