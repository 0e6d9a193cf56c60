"""Finished completions, kept for good: looked up before anything is generated, added to the moment one is finished."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantexp.store import segments
from quantexp.store.completion import Completion, FinishReason
from quantexp.store.index import Index, Place
from quantexp.store.maintenance import CompactReport, Share, StoreReport, compact, report
from quantexp.store.segments import SegmentWriter

__all__ = [
    "CompactReport", "Completion", "CompletionStore", "FinishReason", "Share", "StoreReport", "compact", "report",
]  # fmt: skip

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often to look again when segments go away while they are read, as they do once in a compaction."""


class CompletionStore:
    """All segments in a folder, and one more that this process writes.

    Any number of processes may use a folder at once, also over a shared file system; nothing is ever changed in place
    and writers share no lock. One object is for one thread.

    A record is in its file when `add` returns: killing the process, however hard, loses none. The file is synced to the
    disk when a record is added 5 seconds or more after the last sync, and in `sync` and `close`: when the power fails,
    at most the answers of the last 5 seconds of writing are lost.

    Of several records with one key the first counts, by the name of the segment and then by the place in it.
    Damaged records, and those that cannot be used (`segments.check`), are passed over, with one warning.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = Index()
        self._read: dict[str, int] = {}  # by segment: how far it is in the index
        self._warned: dict[str, int] = {}  # by segment: how far damage has been told of
        self._unreadable: set[Place] = set()
        self._writer: SegmentWriter | None = None
        self._process = os.getpid()

    def __enter__(self) -> "CompletionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, Completion]:
        """Return the completions that are there, those included that other processes have added up to now.

        Args:
            keys: of 32 bytes each.

        Raises:
            OSError: the folder or a segment cannot be read. A folder that does not exist is an empty store.
            ValueError: a key is not 32 bytes.
        """
        wanted = list(dict.fromkeys(keys))
        if any(len(key) != segments.KEY_BYTES for key in wanted):
            raise ValueError(f"a key has {segments.KEY_BYTES} bytes")
        found: dict[bytes, Completion] = {}
        attempts, before = 0, len(self._unreadable)
        while attempts < ATTEMPTS:
            attempts += 1
            self._refresh()
            by_segment: dict[str, list[tuple[Place, bytes]]] = {}
            for key, place in self._index.find(wanted).items():
                by_segment.setdefault(place.segment, []).append((place, key))
            gone, unreadable = False, len(self._unreadable)
            for name, places in by_segment.items():
                try:
                    self._fetch(name, places, found)
                except FileNotFoundError:
                    gone = True
            if len(self._unreadable) > unreadable:
                # The index knew one place of each key only; a sound record may follow.
                self._index, self._read, attempts = Index(), {}, 0
            elif not gone:
                break
            wanted = [key for key in wanted if key not in found]
        self._warn(len(self._unreadable) - before)
        return found

    def add(self, key: bytes, completion: Completion, about: Mapping[str, str]) -> None:
        """Append a completion; it is safe from a crash of this process as soon as this returns.

        Args:
            key: sha256 of all that the answer depends on.
            completion: the answer.
            about: what it belongs to, for people and for the size report, such as its model, quant, task and item.

        Raises:
            OSError: it could not be written or synced, e.g. because the disk is full; adding it again later is fine.
            ValueError, OverflowError: the completion cannot be written down exactly.
        """
        line = segments.encode(key, completion, about)
        writer = self._own_writer()
        if writer is None or not writer.usable():
            if writer is not None:
                writer.abandon()
            writer = self._writer = SegmentWriter(self._folder)
        offset = writer.append(line)
        if self._read.get(writer.name, 0) == offset:
            self._index.add_one(key, Place(writer.name, offset, len(line)))
            self._read[writer.name] = offset + len(line)

    def sync(self) -> None:
        """Have all that was added outlast a power failure.

        Raises:
            OSError: the disk refused.
        """
        writer = self._own_writer()
        if writer is not None:
            writer.sync()

    def close(self) -> None:
        """Sync, and give up this process's segment; does nothing when there is none. A later `add` begins another.

        Raises:
            OSError: the disk refused the sync.
        """
        writer, self._writer = self._own_writer(), None
        if writer is not None:
            try:
                writer.sync()
            finally:
                writer.abandon()

    def _own_writer(self) -> SegmentWriter | None:
        if self._process != os.getpid():  # a fork: the segment is the parent's
            if self._writer is not None:
                self._writer.abandon()
            self._writer, self._process = None, os.getpid()
        return self._writer

    def _refresh(self) -> None:
        """Take in what has been written since the last time."""
        for _ in range(ATTEMPTS):
            try:
                self._take_in()
                return
            except FileNotFoundError:  # compacted away between the listing and the reading
                continue

    def _take_in(self) -> None:
        try:
            sizes = segments.sizes(self._folder)
        except FileNotFoundError:
            sizes = {}
        index, known = self._index, dict(self._read)
        if any(sizes.get(name, 0) < size for name, size in known.items()):
            # A compaction. The index knows one place of each key only: begin anew.
            index, known = Index(), {}
        batches, damaged, warned = [], 0, dict(self._warned)
        for name, size in sizes.items():
            start = known.get(name, 0)
            if size == start:
                continue
            with segments.open_descriptor(self._folder / name) as descriptor:
                for batch in segments.scan(descriptor, start):
                    batches.append((name, self._readable(name, batch)))
                    damaged += int((batch.damaged >= warned.get(name, 0)).sum())
                    known[name] = batch.end
            warned[name] = max(warned.get(name, 0), known.get(name, 0))
        index.add(batches)
        self._index, self._read, self._warned = index, known, warned
        self._warn(damaged)

    def _readable(self, name: str, batch: segments.Batch) -> segments.Batch:
        """Those records of a stretch that have not turned out to be unreadable."""
        known = [place.offset for place in self._unreadable if place.segment == name]
        if not known:
            return batch
        kept = ~np.isin(batch.places["offset"], known)
        return replace(batch, keys=batch.keys[kept], places=batch.places[kept])

    def _fetch(self, name: str, places: list[tuple[Place, bytes]], found: dict[bytes, Completion]) -> None:
        """Read records of one segment."""
        unreadable = set()
        with segments.open_descriptor(self._folder / name) as descriptor:
            for place, key in sorted(places):
                try:
                    stored, completion, _ = segments.decode(segments.read(descriptor, place.offset, place.length))
                except ValueError:
                    unreadable.add(place)
                    continue
                if stored == key:
                    found[key] = completion
                else:
                    unreadable.add(place)
        self._unreadable |= unreadable

    def _warn(self, damaged: int) -> None:
        if damaged:
            log.warning(
                "damaged records passed over in the completion store %s: %d; "
                "their answers will be generated again, and compacting the store removes them",
                self._folder, damaged,
            )  # fmt: skip
