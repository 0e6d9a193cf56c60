"""Maintenance: the contents of a store, and how to make it smaller."""

import errno
import fcntl
import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from quantexp.store import segments
from quantexp.store.segments import CHUNK_BYTES, KEY_BYTES, PLACE
from quantexp.util.errors import UserError

PART = ".compacting"
"""Suffix of a segment that a compaction has not finished."""

LOCK = "compact.lock"
"""Held by a compaction, so that there is one at a time."""

LOCK_SECONDS = 1.0
"""How long to wait for another compaction; it may be at its end."""

ATTEMPTS = 5
"""How often to begin a report again when a compaction takes away the segments."""

SPARE_FILES = 64
"""Open files to leave for the rest of the process while a compaction holds its segments open."""


@dataclass(frozen=True, slots=True)
class Share:
    """Share of a store that belongs to one quant of one model, each key counted once.

    Attributes:
        model: as `about` has it; empty where it says nothing.
        quant: likewise.
        records: how many.
        bytes: of their lines.
    """

    model: str
    quant: str
    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Contents of a store.

    Attributes:
        segments: files.
        live: those of them that are being written to.
        records: sound ones, those of the same key included.
        distinct: different keys.
        duplicates: records whose key has been seen before.
        damaged: records that are torn or corrupt.
        bytes: of all files.
        reclaimable: bytes that a compaction would free now.
        by: shares of models and quants, sorted by name.
    """

    segments: int
    live: int
    records: int
    distinct: int
    duplicates: int
    damaged: int
    bytes: int
    reclaimable: int
    by: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class CompactReport:
    """Result of a compaction.

    Attributes:
        segments: files that became one; 0 if there was nothing to gain.
        live: files left alone because they are being written to.
        records: distinct records in the files looked at; all were kept.
        duplicates: records removed because another one has their key.
        damaged: damaged records removed.
        freed: bytes.
    """

    segments: int
    live: int
    records: int
    duplicates: int
    damaged: int
    freed: int


@dataclass(frozen=True, slots=True)
class _Contents:
    """The records of some segments, in the order of their names; `places` number the segments in that order."""

    keys: NDArray[np.bytes_]
    places: NDArray[np.void]
    damaged: int

    def first(self, within: NDArray[np.bool_] | None = None) -> NDArray[np.void]:
        """Find the first place of each key, in the order of the segments, among those that are marked, if given."""
        keys, places = (self.keys, self.places) if within is None else (self.keys[within], self.places[within])
        _, first = np.unique(keys, return_index=True)
        return places[np.sort(first)]


def report(folder: Path) -> StoreReport:
    """Count what is in a store; it may be in use.

    Raises:
        OSError: the folder or a file in it cannot be read.
    """
    for _ in range(ATTEMPTS):
        sizes = segments.sizes(folder)
        try:
            return _report(folder, sizes)
        except FileNotFoundError:  # compacted away in the meantime
            continue
    raise UserError(f"The completion store {folder} is being compacted; ask again when that has finished.")


def compact(folder: Path) -> CompactReport:
    """Rewrite all segments that nobody writes to into one, without duplicates and damage.

    Readers and writers may go on meanwhile. Killed at any moment, this loses nothing: the old files go after the new
    one is complete and safe on the disk. What a killed one leaves behind, the next one removes.

    Raises:
        UserError: another compaction is running, or the file system has no locks.
        OSError: a file cannot be read, written or removed.
    """
    segments.sizes(folder)  # no lock file in a folder that is not there
    try:
        with FileLock(folder / LOCK, timeout=LOCK_SECONDS):
            for left in folder.glob(f"*{PART}"):
                left.unlink()
            return _compact(folder)
    except Timeout:
        raise UserError(
            f"Another process is compacting the completion store {folder}; try again when it has finished."
        ) from None


def _report(folder: Path, sizes: dict[str, int]) -> StoreReport:
    ended = []
    for name in sizes:
        with segments.open_descriptor(folder / name) as descriptor:
            ended.append(segments.claim(descriptor, fcntl.LOCK_SH) is True)
    contents = _gather(_each_opened(folder, sizes), ended=False)
    first = contents.first()
    shares: dict[tuple[str, str], list[int]] = {}
    damaged = contents.damaged
    for number, name in enumerate(sizes):
        with segments.open_descriptor(folder / name) as descriptor:
            for _, length, offset in first[first["segment"] == number].tolist():
                try:
                    about = segments.about(segments.read(descriptor, offset, length))
                except ValueError:
                    damaged += 1
                    continue
                share = shares.setdefault((str(about.get("model", "")), str(about.get("quant", ""))), [0, 0])
                share[0] += 1
                share[1] += length
    of_ended = np.array(ended, bool)
    kept = contents.first(of_ended[contents.places["segment"]])["length"].sum(dtype=np.int64)
    return StoreReport(
        segments=len(sizes),
        live=ended.count(False),
        records=len(contents.keys),
        distinct=len(first),
        duplicates=len(contents.keys) - len(first),
        damaged=damaged,
        bytes=sum(sizes.values()),
        reclaimable=sum(size for size, over in zip(sizes.values(), ended, strict=True) if over) - int(kept),
        by=tuple(Share(*names, *numbers) for names, numbers in sorted(shares.items())),
    )


def _each_opened(folder: Path, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        with segments.open_descriptor(folder / name) as descriptor:
            yield descriptor


def _gather(descriptors: Iterable[int], *, ended: bool) -> _Contents:
    keys, places, damaged = [np.empty(0, f"S{KEY_BYTES}")], [np.empty(0, PLACE)], 0
    for number, descriptor in enumerate(descriptors):
        for batch in segments.scan(descriptor, ended=ended):
            batch.places["segment"] = number
            keys.append(batch.keys)
            places.append(batch.places)
            damaged += len(batch.damaged)
    return _Contents(np.concatenate(keys), np.concatenate(places), damaged)


def _without_unusable(contents: _Contents, descriptors: Sequence[int]) -> _Contents:
    """Leave out, of several records with one key, those that cannot be used though their checksums are right."""
    _, number, times = np.unique(contents.keys, return_inverse=True, return_counts=True)
    unusable = []
    for row in np.flatnonzero(times[number] > 1):
        place = contents.places[row]
        try:
            segments.decode(segments.read(descriptors[place["segment"]], int(place["offset"]), int(place["length"])))
        except ValueError:
            unusable.append(row)
    return _Contents(
        keys=np.delete(contents.keys, unusable),
        places=np.delete(contents.places, unusable),
        damaged=contents.damaged + len(unusable),
    )


def _compact(folder: Path) -> CompactReport:
    with ExitStack() as locks:
        sizes = segments.sizes(folder)
        locks.enter_context(_more_open_files(len(sizes)))
        held: dict[str, int] = {}
        for name in sizes:
            # Held until the file is gone. A writer holds its own for life, so neither can get in the other's way.
            with ExitStack() as lock:
                descriptor = lock.enter_context(segments.open_descriptor(folder / name, os.O_RDWR))
                free = segments.claim(descriptor, fcntl.LOCK_EX)
                if free is None:
                    raise UserError(
                        f"The file system of {folder} has no locks, so nobody can tell which files of the completion "
                        "store are in use; copy the store to another one and compact it there."
                    )
                if free:
                    held[name] = descriptor
                    locks.push(lock.pop_all())
        contents = _without_unusable(_gather(held.values(), ended=True), [*held.values()])
        first = contents.first()
        before = sum(os.fstat(descriptor).st_size for descriptor in held.values())
        freed = before - int(first["length"].sum(dtype=np.int64))
        done = CompactReport(
            segments=len(held),
            live=len(sizes) - len(held),
            records=len(first),
            duplicates=len(contents.keys) - len(first),
            damaged=contents.damaged,
            freed=freed,
        )
        if len(held) < 2 and not freed:
            return replace(done, segments=0)
        if len(first):
            _rewrite(folder, held, first)
        for name in held:
            (folder / name).unlink()
        segments.sync_folder(folder)
        return done


def _rewrite(folder: Path, held: dict[str, int], first: NDArray[np.void]) -> None:
    """Copy the records at these places to a new segment whose name sorts before those of the old ones."""
    times = [time for name in held if (time := segments.read_time(name)) is not None]
    earliest = min(times, default=datetime.now(UTC)) - timedelta(microseconds=1)
    final = folder / segments.new_name(earliest)
    part = final.with_suffix(PART)
    try:
        with part.open("xb") as target:
            for number, descriptor in enumerate(held.values()):
                _copy(descriptor, first[first["segment"] == number], target)
            target.flush()
            os.fsync(target.fileno())
        # Nothing may go before its copy is known to be sound.
        with segments.open_descriptor(part) as descriptor:
            copied = _gather([descriptor], ended=True)
        if copied.damaged or len(copied.keys) != len(first):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(part))
        part.rename(final)
    finally:
        part.unlink(missing_ok=True)
    segments.sync_folder(folder)


def _copy(source: int, places: NDArray[np.void], target: BinaryIO) -> None:
    """Append these lines of one segment, in the order of the file; neighbours in one go."""
    begins = places["offset"]
    ends = begins + places["length"]
    joined = np.flatnonzero(ends[:-1] == begins[1:])  # to the one after
    runs = zip(np.delete(begins, joined + 1).tolist(), np.delete(ends, joined).tolist(), strict=True)
    for begin, end in runs:
        for offset in range(begin, end, CHUNK_BYTES):
            target.write(segments.read(source, offset, min(CHUNK_BYTES, end - offset)))


@contextmanager
def _more_open_files(files: int) -> Iterator[None]:
    """Room for so many open files more than the usual ones, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files + sum(1 for _ in Path("/dev/fd").iterdir()) + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
