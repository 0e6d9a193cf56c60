"""The files of a sweep's jobs, many in one.

A server takes some milliseconds to hand over a file, however small it is. So of a sweep's many jobs one now and then
puts the files that are there by then into one, next to them.
"""

import json
import logging
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from quantexp.tracking.backend import Backend
from quantexp.tracking.errors import failures
from quantexp.tracking.reader import Reader
from quantexp.tracking.snapshots import JOBS, MERGED, write_merged
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)

EVERY = 500
"""Of so many jobs one merges, on average."""

FEWEST = 100
"""So many files are worth it."""

LARGEST = 32_000_000
"""Bytes from which on a merged file takes no more: whoever writes or reads it has all of it in memory."""


def merge_now_and_then(backend: Backend, sweep: str, run_id: str) -> None:
    """Merge the files of a sweep's jobs that no merged one holds, if this job is one that does so.

    Jobs that do so at the same time hold a file twice, which does no harm. A merge that fails costs whoever compares
    some time, and the job nothing.

    Args:
        backend: a server.
        sweep: id of its run.
        run_id: id of the job, which is as good as a random number; nothing needs to be remembered.
    """
    if not merges(run_id):
        return
    expected: tuple[type[Exception], ...] = (*failures(), UserError, OSError, ValueError)
    try:
        _merge(backend, sweep, run_id)
    except expected as error:
        log.warning("the files of the sweep's jobs were not merged; comparing takes longer: %s", one_line(str(error)))


def merges(run_id: str) -> bool:
    """Return whether the job with this id is one that merges."""
    return zlib.crc32(run_id.encode()) % EVERY == 0


def _merge(backend: Backend, sweep: str, run_id: str) -> None:
    reader = Reader(backend)
    there = set(reader.names(sweep, MERGED))
    indices = [name for name in there if name.endswith(".json") and name.replace(".json", ".arrow") in there]
    held = {name for _, index in reader.contents(sweep, indices) for name in _names_in(index)}
    names = [name for name in reader.names(sweep, JOBS) if name not in held]
    if len(names) < FEWEST:
        return
    for number, files in enumerate(_batches(reader, sweep, names)):
        with tempfile.TemporaryDirectory() as folder:
            for file in write_with_index(files, Path(folder), f"{run_id}-{number}"):
                backend.put(sweep, file, MERGED)


def write_with_index(files: Mapping[str, bytes], folder: Path, name: str) -> tuple[Path, Path]:
    """Put files into one, and their names into another; in this order, so that an index tells of what is there."""
    merged, index = folder / f"{name}.arrow", folder / f"{name}.json"
    write_merged(files, merged)
    index.write_text(json.dumps([*files]), encoding="utf-8")
    return merged, index


def _batches(reader: Reader, sweep: str, names: Sequence[str]) -> Iterator[Mapping[str, bytes]]:
    """Yield the files that can be read, as many together as one merged file takes."""
    files: dict[str, bytes] = {}
    size = 0
    for name, content in reader.contents(sweep, names):
        if content is not None:
            files[name] = content
            size += len(content)
        if size >= LARGEST:
            yield files
            files, size = {}, 0
    if files:
        yield files


def _names_in(index: bytes | None) -> set[str]:
    """Return the names in an index; of a lost or damaged one nothing, and its files are merged once more."""
    try:
        return {str(name) for name in json.loads(index or b"[]")}
    except (ValueError, TypeError):
        return set()
