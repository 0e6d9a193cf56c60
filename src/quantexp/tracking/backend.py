"""The MLflow tracking store itself: where it is, and the experiment in it."""

import sqlite3
from contextlib import closing
from functools import cached_property
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from quantexp.config import TrackingConfig
from quantexp.errors import UserError


class Backend:
    """An SQLite file in a folder, and its artifacts beside it.

    Attributes:
        uri: as MLflow has it.
        shown: where that is, as people have it.
        client: what asks it.
        lock: held for what MLflow does not do in one step.
    """

    def __init__(self, config: TrackingConfig) -> None:
        self._folder = Path(config.folder).absolute()
        self._name = config.experiment
        self._folder.mkdir(parents=True, exist_ok=True)
        database = self._folder / "mlflow.db"
        self.shown = str(database)
        self.uri = f"sqlite:///{database}"
        self.lock = FileLock(self._folder / "mlflow.lock")
        # Processes that create the tables at the same time break each other.
        with self.lock:
            if not database.is_file():
                _create(database)
            self.client = mlflow.MlflowClient(self.uri)

    @cached_property
    def experiment(self) -> str:
        """Id of the experiment, which is made if it is not there.

        Raises:
            UserError: it was deleted.
        """
        with self.lock:
            found = self.client.get_experiment_by_name(self._name)
            if found is None:
                artifacts = (self._folder / "artifacts").as_uri()
                return str(self.client.create_experiment(self._name, artifacts))
        if found.lifecycle_stage != "active":
            raise UserError(
                f"The MLflow experiment {self._name} was deleted; restore it with `mlflow experiments restore`, "
                "or choose another name with tracking.experiment=..."
            )
        return str(found.experiment_id)


def exists(config: TrackingConfig) -> bool:
    """Whether the store and its experiment are there already; looking creates nothing."""
    database = Path(config.folder).absolute() / "mlflow.db"
    if not database.is_file():
        return False
    return mlflow.MlflowClient(f"sqlite:///{database}").get_experiment_by_name(config.experiment) is not None


def _create(database: Path) -> None:
    """Make the tables in a file of another name first: MLflow cannot mend ones that were cut off half made."""
    unfinished = database.with_suffix(".unfinished")
    for left in unfinished.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    SqlAlchemyStore(f"sqlite:///{unfinished}", database.parent.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=wal")  # readers and a writer at once
    unfinished.replace(database)
