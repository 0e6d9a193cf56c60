"""The MLflow tracking store itself: where it is, and the experiment in it."""

import atexit
import logging
import os
import shutil
import sqlite3
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from enum import Enum, auto
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from filelock import FileLock
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from quantexp.tracking.errors import ServerAwayError, explain_absence, failures
from quantexp.tracking.location import RunFiles, database_uri, find_files, no_stray_folders, relocate
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Access(Enum):
    """The use of a store: `write` needs one that can be changed, `record` changes it if it can, `read` never does."""

    write = auto()
    record = auto()
    read = auto()


class Backend(ABC):
    """Place of the runs, and the experiment that they belong to.

    Attributes:
        uri: as MLflow has it.
        shown: as people have it.
        client: what asks it.
        lock: held, against other processes of this machine, for what MLflow does not do in one step.
        files: those of its runs; None if a server has them.
        is_writable: whether anything can be recorded.
    """

    files: RunFiles | None = None
    is_writable = True

    def __init__(self, uri: str, shown: str, lock: AbstractContextManager[object], experiment: str) -> None:
        self.uri, self.shown = uri, shown
        self.lock = lock
        self.client = mlflow.MlflowClient(uri)
        self._name = experiment

    @cached_property
    def experiment(self) -> str:
        """Id of the experiment, which is made if it is not there.

        Raises:
            UserError: it was deleted.
        """
        with self.lock:
            found = self.client.get_experiment_by_name(self._name)
            if found is None:
                return self._make(self._name)
        if found.lifecycle_stage != "active":
            raise UserError(
                f"The MLflow experiment {self._name} was deleted; restore it with `mlflow experiments restore`, "
                "or choose another name with tracking.experiment=..."
            )
        return str(found.experiment_id)

    def translate_errors(self) -> AbstractContextManager[None]:
        """In this context, an error that means that the store is away for a time is told as `ServerAwayError`."""
        return nullcontext()

    def put(self, run_id: str, file: Path, folder: str = "") -> None:
        """Keep a file in a folder of a run, under its own name; one of the same name goes."""
        self.client.log_artifact(run_id, str(file), folder or None)

    def names(self, run_id: str, folder: str) -> list[str]:
        """List the files in a folder of a run."""
        with self.translate_errors():
            return [str(entry.path) for entry in self.client.list_artifacts(run_id, folder)]

    @abstractmethod
    def _make(self, experiment: str) -> str:
        """Create the experiment; its id."""


class Local(Backend):
    """An SQLite file in a folder, and the runs' files beside it."""

    files: RunFiles

    def __init__(self, folder: Path, experiment: str, access: Access = Access.write) -> None:
        """Open a local store; one that is not there is made, unless it is only to be read.

        Raises:
            UserError: it cannot be written though it has to be, or the installed MLflow cannot open it.
        """
        # Only now: servers do without SQLAlchemy and Alembic.
        from quantexp.tracking.migration import is_current, upgrade_tables

        _close_databases_at_exit()
        database = find_database(folder)
        if access is Access.write:
            folder.mkdir(parents=True, exist_ok=True)
        self.is_writable = access is not Access.read and _can_write(folder)
        if access is Access.write and not self.is_writable:
            raise unwritable_error(folder)
        # Processes that create or change the tables at the same time break each other.
        lock = FileLock(folder / "mlflow.lock") if _can_write(folder) else nullcontext()
        with lock:
            if self.is_writable and not has_database(folder):
                _create(database)
            opened = database
            if not _can_write(folder) or (access is Access.read and not is_current(database, database)):
                place = tempfile.mkdtemp(prefix="quantexp-")
                weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
                opened = Path(place) / database.name
                _copy(database, opened)
            if not is_current(opened, database):
                upgrade_tables(opened, keep=opened == database, shown=database)
            files = find_files(opened, folder, experiment)
            if self.is_writable:
                relocate(opened, experiment, files)
        self.files = RunFiles(files)
        self._artifacts = files
        with no_stray_folders(opened):
            super().__init__(database_uri(opened), str(database), lock, experiment)

    def put(self, run_id: str, file: Path, folder: str = "") -> None:
        """Keep a file in a folder of a run, under its own name; one of the same name goes."""
        self.files.put(run_id, file, folder)

    def names(self, run_id: str, folder: str) -> list[str]:
        """List the files in a folder of a run."""
        return self.files.names(run_id, folder)

    def _make(self, experiment: str) -> str:
        return str(self.client.create_experiment(experiment, self._artifacts.as_uri()))


class Server(Backend):
    """An MLflow server, which may be away at times."""

    def __init__(self, uri: str, folder: Path, experiment: str) -> None:
        """`folder` is of this machine."""
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("urllib3.connectionpool").addFilter(_say_less)
        super().__init__(uri, uri, FileLock(folder / "mlflow.lock"), experiment)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """MLflow waits some minutes for a server, and then says at length why."""
        try:
            yield
        except failures() as error:
            if (reason := explain_absence(error)) is None:
                raise
            raise ServerAwayError(self.shown, reason) from error

    def _make(self, experiment: str) -> str:
        try:
            return str(self.client.create_experiment(experiment))
        except mlflow.MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        # Another machine was a moment faster.
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            raise UserError(f"The MLflow experiment {experiment} of {self.shown} was removed this moment; try again.")
        return str(found.experiment_id)


@cache
def _close_databases_at_exit() -> None:
    """Let this process close the databases that it opens: SQLite then puts its log of changes into the database.

    Python closes them too, but only as garbage, which a command does not look for at its end.
    """
    from sqlalchemy import Engine, event

    opened: weakref.WeakSet[Engine] = weakref.WeakSet()

    @event.listens_for(Engine, "engine_connect")
    def remember(connection: "Connection") -> None:
        opened.add(connection.engine)

    @atexit.register
    def close() -> None:
        for engine in opened:
            engine.dispose()


def _say_less(record: logging.LogRecord) -> bool:
    """Log each new attempt to reach a server in one line, without objects and their state."""
    if record.msg.startswith("Retrying (") and isinstance(record.args, tuple):
        left = getattr(record.args[0], "total", 0) + 1
        record.msg, record.args = "the tracking server does not answer; attempts left: %d", (left,)
    return True


def find_database(folder: Path) -> Path:
    """Return the SQLite file of a local store."""
    return folder / "mlflow.db"


def has_database(folder: Path) -> bool:
    """Tell if a folder holds a local store; an empty file is none."""
    database = find_database(folder)
    return database.is_file() and database.stat().st_size > 0


def unwritable_error(folder: Path) -> UserError:
    """Make the error that says that a store cannot be written."""
    return UserError(
        f"The store in {folder} cannot be written (its owner or its file system does not allow it); copy it, or choose "
        "another tracking.folder."
    )


def _can_write(folder: Path) -> bool:
    database = find_database(folder)
    return os.access(folder, os.W_OK | os.X_OK) and (not database.exists() or os.access(database, os.W_OK))


def _copy(database: Path, to: Path) -> None:
    """Copy a database that cannot be written, and perhaps somebody else writes to."""
    try:
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)
    except sqlite3.OperationalError:
        # SQLite opens one with a log of changes only if it can write beside it, unless a writer is there already.
        for end in ("", "-wal"):
            if (part := database.with_name(database.name + end)).is_file():
                shutil.copyfile(part, to.with_name(to.name + end))


def _create(database: Path) -> None:
    """Make the tables in a file of another name first: MLflow cannot mend ones that were cut off half made."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # only now: servers do without it

    unfinished = database.with_suffix(".unfinished")
    for left in unfinished.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    with no_stray_folders(unfinished):
        uri = database_uri(unfinished)
        SqlAlchemyStore(uri, database.parent.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=wal")  # readers and a writer at once
    unfinished.replace(database)
