"""The MLflow tracking store itself: where it is, and the experiment in it."""

import logging
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from quantexp.errors import UserError
from quantexp.tracking.failures import ServerAwayError, away, failures


class Backend(ABC):
    """Where runs are kept, and the experiment that they belong to.

    Attributes:
        uri: as MLflow has it.
        shown: as people have it.
        client: what asks it.
        lock: held, against other processes of this machine, for what MLflow does not do in one step.
    """

    def __init__(self, uri: str, shown: str, folder: Path, experiment: str) -> None:
        self.uri, self.shown = uri, shown
        self.lock = FileLock(folder / "mlflow.lock")
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

    def told(self) -> AbstractContextManager[None]:
        """In this context, an error that means that the store is away for a time is told as `ServerAwayError`."""
        return nullcontext()

    @abstractmethod
    def _make(self, experiment: str) -> str:
        """Create the experiment; its id."""


class Local(Backend):
    """An SQLite file in a folder, and the runs' files beside it."""

    def __init__(self, folder: Path, experiment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        database = database_of(folder)
        self._artifacts = folder / "artifacts"
        # Processes that create the tables at the same time break each other.
        with FileLock(folder / "mlflow.lock"):
            if not database.is_file():
                _create(database)
        super().__init__(f"sqlite:///{database}", str(database), folder, experiment)

    def _make(self, experiment: str) -> str:
        return str(self.client.create_experiment(experiment, self._artifacts.as_uri()))


class Server(Backend):
    """An MLflow server, which may be away at times."""

    def __init__(self, uri: str, folder: Path, experiment: str) -> None:
        """`folder` is of this machine."""
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("urllib3.connectionpool").addFilter(_say_less)
        super().__init__(uri, uri, folder, experiment)

    @contextmanager
    def told(self) -> Iterator[None]:
        """MLflow waits some minutes for a server, and then says at length why."""
        try:
            yield
        except failures() as error:
            if (reason := away(error)) is None:
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


def _say_less(record: logging.LogRecord) -> bool:
    """What is said before each new attempt to reach a server: without a line of objects and their state."""
    if record.msg.startswith("Retrying (") and isinstance(record.args, tuple):
        left = getattr(record.args[0], "total", 0) + 1
        record.msg, record.args = "the tracking server does not answer; attempts left: %d", (left,)
    return True


def database_of(folder: Path) -> Path:
    """The SQLite file of a local store."""
    return folder / "mlflow.db"


def _create(database: Path) -> None:
    """Make the tables in a file of another name first: MLflow cannot mend ones that were cut off half made."""
    unfinished = database.with_suffix(".unfinished")
    for left in unfinished.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    SqlAlchemyStore(f"sqlite:///{unfinished}", database.parent.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=wal")  # readers and a writer at once
    unfinished.replace(database)
