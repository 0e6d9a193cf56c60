"""The files of a sweep's jobs, many in one.

A server takes some milliseconds to hand over a file, however small it is. So of a sweep's many jobs one now and then
puts the files that are there by then into one, next to them.
"""

import json
import tempfile
from pathlib import Path

from quantexp.tracking.backend import Backend
from quantexp.tracking.reader import Reader
from quantexp.tracking.records import JOBS, MERGED, write_merged

EVERY = 500
"""Of so many jobs one merges, on average; and so many files are worth it."""


def merge_now_and_then(backend: Backend, sweep: str, run_id: str) -> None:
    """Merge the files of a sweep's jobs that no merged one holds, if this job is one that does so.

    Jobs that do so at the same time hold a file twice, which does no harm.

    Args:
        backend: a server.
        sweep: id of its run.
        run_id: id of the job, which is as good as a random number; nothing needs to be remembered.
    """
    if not _is_one_that_merges(run_id):
        return
    reader = Reader(backend)
    indices = reader.contents(sweep, reader.names(sweep, MERGED, ".json"))
    held = {name for _, index in indices for name in _names_in(index)}
    names = [name for name in reader.names(sweep, JOBS) if name not in held]
    if len(names) < EVERY:
        return
    files = {name: content for name, content in reader.contents(sweep, names) if content is not None}
    with tempfile.TemporaryDirectory() as folder:
        merged, index = (Path(folder) / f"{run_id}{ending}" for ending in (".arrow", ".json"))
        write_merged(files, merged)
        index.write_text(json.dumps([*files]), encoding="utf-8")
        for file in (merged, index):  # whoever reads the index finds what it tells of
            backend.client.log_artifact(sweep, str(file), MERGED)


def _names_in(index: bytes | None) -> set[str]:
    """What an index tells of; of a lost or damaged one nothing, and its files are merged once more."""
    try:
        return {str(name) for name in json.loads(index or b"[]")}
    except (ValueError, TypeError):
        return set()


def _is_one_that_merges(run_id: str) -> bool:
    return int(run_id, 16) % EVERY == 0
