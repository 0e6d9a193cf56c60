"""Runs on their way to a tracking server: written down in a folder first, so that none is lost while it is away.

Each run has a folder of its own with a journal, of which each line is an operation, and the files of the run. Whoever
holds the folder's lock plays the operations to the server, in their order; the folder goes when the run has ended
there. The lock goes with its process, so that what a killed one has left can be taken up by the next.
"""

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from quantexp.tracking.backend import Backend
from quantexp.tracking.errors import explain_absence, failures
from quantexp.tracking.operations import End, File, Operation, Record, Scores, decode, encode
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)

NUMBER = "quantexp.number"
"""Tag with the number under which a run was written down: a run whose creation was not confirmed is found by it."""

ATTEMPTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""Retries after 0, 2 and 4 seconds, also when nothing has come for 20; MLflow's own are 7, in some four minutes."""

PAUSE = 60.0
"""Seconds before a run whose server was away tries again."""

DAMAGED = "outbox-damaged"
"""Folder, beside the outbox, of what can be sent no more."""

JOURNAL, LOCK, FILES = "journal.jsonl", "lock", "files"


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first line of a journal: where the run belongs, and as what it begins.

    Attributes:
        started: in milliseconds since 1970.
    """

    uri: str
    experiment: str
    name: str
    tags: Mapping[str, str]
    started: int


class Entry:
    """One run on its way; takes what is done to it (`Recorder`)."""

    def __init__(self, folder: Path, backend: Backend, lock: FileLock, beginning: Beginning) -> None:
        """`lock` is held by the caller, and the entry's from then on."""
        self.backend = backend
        self._folder, self._lock, self._beginning = folder, lock, beginning
        self._run_id: str | None = None
        self._pending: deque[Operation] = deque()
        self._ended = False
        self._files = 0
        self._tried = 0.0
        self.failure: str | None = None
        self.refused = False

    @classmethod
    def begin(cls, outbox: Path, backend: Backend, beginning: Beginning, run_id: str | None = None) -> "Entry":
        """Write down a run that begins, and try to create it; one that has a `run_id` is there and goes on."""
        folder = outbox / f"{beginning.started}-{uuid.uuid4().hex}"  # in the order of their beginning
        folder.mkdir(parents=True)
        entry = cls(folder, backend, _locked(folder, patience=60), beginning)
        entry._write({name: getattr(beginning, name) for name in Beginning.__slots__})
        if run_id is None:
            entry.send()
        else:
            entry._has(run_id)
        return entry

    @classmethod
    def left(
        cls,
        folder: Path,
        backend_of: Callable[[Beginning], Backend | None],
        status: str = "KILLED",
        reason: str = "its process was killed",
    ) -> "Entry | None":
        """Return what another process has left in a folder; None if it is at work, or if there is nothing for us to do.

        A run that has not ended there ends with this status, for this reason.

        Raises:
            ValueError: the journal is damaged, or names a file that is not the entry's.
        """
        try:
            lock = _locked(folder, patience=0)
        except Timeout:
            return None
        try:
            lines = _whole_lines(folder / JOURNAL)
            if not lines and time.time() - folder.stat().st_mtime > 60:  # killed before the run had begun
                shutil.rmtree(folder)
            beginning = _read_beginning(lines[0]) if lines else None
            backend = None if beginning is None else backend_of(beginning)
            if beginning is None or backend is None:
                lock.release()
                return None
            entry = cls(folder, backend, lock, beginning)
            for line in lines[1:]:
                if "run_id" in line:
                    entry._run_id = _read_run_id(line)
                else:
                    entry._pending.append(_locate_file(decode(line), folder))
        except ValueError:
            lock.release()
            raise
        entry._files = len(list((folder / FILES).glob("*")))
        entry._ended = any(isinstance(each, End) for each in entry._pending)
        if not entry._ended:
            killed = round(1000 * (folder / JOURNAL).stat().st_mtime)
            for operation in (Record(tags={"error": reason}), End(status, killed)):
                entry._keep(operation)
        return entry

    @property
    def name(self) -> str:
        """Name of the run at first."""
        return self._beginning.name

    @property
    def run_id(self) -> str:
        """MLflow's id of the run.

        Raises:
            UserError: The server has not been there to give it one.
        """
        if self._run_id is None:
            raise UserError(f"{self.name} is not on {self.backend.shown} yet: {self.failure}.")
        return self._run_id

    def record(self, operation: Operation) -> None:
        """Write an operation down, and do it if the server is there.

        After a failure a job does not wait at each step.
        """
        self._keep(operation)
        if self.failure is None or self._ended or time.monotonic() > self._tried + PAUSE:
            self.send()
            if self._ended and self.failure is not None:
                log.warning(
                    "%s is kept in %s, and goes to the server with: python -m quantexp.sync", self.name, self._folder
                )
                self._lock.release()

    def send(self, *, patient: bool = False) -> bool:
        """Play what is written down to the server; whether all of it is there now.

        Args:
            patient: with as many attempts as MLflow makes by itself (some minutes), not just a few seconds.
        """
        try:
            with contextlib.nullcontext() if patient else few_attempts():
                self._play()
        except failures() as error:
            reason = explain_absence(error)
            self.refused = reason is None
            reason = reason or f"refuses something ({one_line(str(error))})"
            if self.failure is None:
                log.warning("the tracking server %s %s", self.backend.shown, reason)
            self.failure, self._tried = reason, time.monotonic()
            return False
        self.failure = None
        return True

    def _play(self) -> None:
        if self._run_id is None:
            self._has(self._create())
        while self._pending:
            self._pending[0].apply(self.backend, self.run_id)
            self._pending.popleft()
        if self._ended:
            self._drop_others()
            # First the journal: without it nobody looks for the files that it names.
            (self._folder / JOURNAL).unlink()
            shutil.rmtree(self._folder)
            self._lock.release()

    def _has(self, run_id: str) -> None:
        self._run_id = run_id
        self._write({"run_id": run_id})

    def release(self) -> None:
        """Leave the entry to whoever tries next."""
        self._lock.release()

    def _keep(self, operation: Operation) -> None:
        if isinstance(operation, File | Scores):
            place = self._folder / FILES / str(self._files)
            self._files += 1
            place.mkdir(parents=True)
            copied = place / Path(operation.path).name
            shutil.copyfile(operation.path, copied)
            _to_disk(copied)
            self._write(encode(replace(operation, path=str(copied.relative_to(self._folder)))))
            operation = replace(operation, path=str(copied))
        else:
            self._write(encode(operation))
        self._pending.append(operation)
        self._ended = self._ended or isinstance(operation, End)

    def _write(self, line: Mapping[str, Any]) -> None:
        journal = self._folder / JOURNAL
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=dict) + "\n")
        _to_disk(journal)

    def _create(self) -> str:
        tags = {**self._beginning.tags, NUMBER: self._folder.name}
        # The server may have created it and been killed before it could say so.
        if there := self._runs():
            return there[0]
        created = self.backend.client.create_run(
            self.backend.experiment, self._beginning.started, tags, self._beginning.name
        )
        return str(created.info.run_id)

    def _drop_others(self) -> None:
        """Delete the second of two runs that a repeated creation may have made, since no answer came to the first."""
        for run_id in self._runs():
            if run_id != self._run_id:
                self.backend.client.delete_run(run_id)

    def _runs(self) -> list[str]:
        found = self.backend.client.search_runs(
            [self.backend.experiment],
            f"tags.`{NUMBER}` = '{self._folder.name}'",
            order_by=["attributes.start_time ASC"],
        )
        return [str(run.info.run_id) for run in found]


@dataclass(slots=True)
class Sent:
    """Outcome of sending an outbox.

    Attributes:
        sent: names of the runs that are on the server now.
        waiting: names of those that are still to go there.
        reason: why they are.
        elsewhere: for how many runs which other servers are meant.
        damaged: a sentence for each run that can be sent no more, and was set aside.
    """

    sent: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    reason: str | None = None
    elsewhere: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def send_all(outbox: Path, uri: str, backend_of: Callable[[str], Backend], *, patient: bool) -> Sent:
    """Send what other processes have left for a server; runs whose process lives are left to it.

    Args:
        outbox: the folder.
        uri: of the server.
        backend_of: how to reach an experiment of it, by name.
        patient: whether to wait for it for some minutes, or for seconds.
    """
    result = Sent()

    def chosen(beginning: Beginning) -> Backend | None:
        if beginning.uri != uri:
            result.elsewhere[beginning.uri] = result.elsewhere.get(beginning.uri, 0) + 1
            return None
        return backend_of(beginning.experiment)

    gone = False
    for folder in sorted(outbox.glob("*/")):
        try:
            entry = Entry.left(folder, chosen)
        except ValueError as error:
            result.damaged.append(_set_aside(folder, error))
            continue
        if entry is None:
            continue
        # Once it is known to be away, nobody waits for it at each run anew.
        if not gone and entry.send(patient=patient):
            result.sent.append(entry.name)
            continue
        entry.release()
        gone = gone or not entry.refused
        result.reason = result.reason or entry.failure
        result.waiting.append(entry.name)
    return result


def fail_entries(
    outbox: Path, uri: str, tags: Mapping[str, str], reason: str, backend_of: Callable[[str], Backend]
) -> list[str]:
    """End the runs as FAILED that a dead process has left on their way to a server; their names.

    Args:
        outbox: the folder.
        uri: of the server.
        tags: with which the process has begun its runs.
        reason: why they failed.
        backend_of: how to reach an experiment of the server, by name.
    """
    failed = []

    def chosen(beginning: Beginning) -> Backend | None:
        is_of_process = beginning.uri == uri and tags.items() <= beginning.tags.items()
        return backend_of(beginning.experiment) if is_of_process else None

    for folder in sorted(outbox.glob("*/")):
        try:
            # A process runs one job after the other: runs that had ended are no part of its death.
            if any(line.get("operation") == End.__name__ for line in _whole_lines(folder / JOURNAL, cut=False)):
                continue
            entry = Entry.left(folder, chosen, "FAILED", reason[:5000])
        except ValueError as error:
            _set_aside(folder, error)
            continue
        if entry is not None:
            failed.append(entry.name)
            if not entry.send():
                entry.release()
    return failed


@contextmanager
def few_attempts() -> Iterator[None]:
    """Let MLflow give up after seconds instead of minutes, where nobody should wait long."""
    before = {name: os.environ.get(name) for name in ATTEMPTS}
    os.environ.update(ATTEMPTS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _set_aside(folder: Path, error: ValueError) -> str:
    """Move what cannot be sent to where nobody looks for more to send; the result is the sentence that says so."""
    aside = folder.parent.with_name(DAMAGED) / folder.name
    aside.parent.mkdir(exist_ok=True)
    folder.rename(aside)
    sentence = (
        f"{folder} cannot be sent, for its {JOURNAL} is damaged ({one_line(str(error))}); it is kept in {aside}, and "
        "the same command runs its job again."
    )
    log.warning("%s", sentence)
    return sentence


def _read_beginning(line: Mapping[str, Any]) -> Beginning:
    kinds = {"uri": str, "experiment": str, "name": str, "tags": dict, "started": int}
    if line.keys() != kinds.keys() or not all(isinstance(line[key], kind) for key, kind in kinds.items()):
        raise ValueError("it does not say how the run begins")
    if not all(isinstance(each, str) for pair in line["tags"].items() for each in pair):
        raise ValueError("a tag is no text")
    return Beginning(**line)


def _read_run_id(line: Mapping[str, Any]) -> str:
    if not isinstance(line["run_id"], str) or not line["run_id"].isalnum():
        raise ValueError("the id of the run is none")
    return line["run_id"]


def _locate_file(operation: Operation, folder: Path) -> Operation:
    """Give an operation the whole path of its file, which must be one of the entry's own."""
    if not isinstance(operation, File | Scores):
        return operation
    path = folder / operation.path
    if isinstance(operation, File) and ".." in Path(operation.folder).parts:
        raise ValueError(f"{operation.folder} is no folder of a run")
    if not path.resolve().is_relative_to((folder / FILES).resolve()):
        raise ValueError(f"{operation.path} is not a file of this run")
    if not path.is_file():
        raise ValueError(f"{operation.path} is gone")
    return replace(operation, path=str(path))


def _locked(folder: Path, patience: float) -> FileLock:
    lock = FileLock(folder / LOCK)
    lock.acquire(timeout=patience)
    return lock


def _whole_lines(journal: Path, *, cut: bool = True) -> list[dict[str, Any]]:
    """Return the lines that were written whole.

    `cut` removes what is left of one in which the process was killed: for the holder of the lock only, since a process
    that lives may be about to write the rest.
    """
    if not journal.is_file():
        return []
    written = journal.read_bytes()
    whole = written.rpartition(b"\n")[0] + b"\n" if b"\n" in written else b""
    if cut and whole != written:
        os.truncate(journal, len(whole))
    lines = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number} cannot be read") from error
        if not isinstance(lines[-1], dict):
            raise ValueError(f"line {number} is no mapping")
    return lines


def _to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
