"""MLflow's tables without a row, which every new store needs: made by MLflow once for a test run, then copied."""

import sqlite3
from contextlib import closing
from pathlib import Path

from filelock import FileLock
from mlflow.store.db import utils
from sqlalchemy import Engine

VARIABLE = "QUANTEXP_TESTS_EMPTY_TABLES"
"""Environment variable with the folder in which they are kept, for processes that the tests start."""


def copy_tables(folder: Path) -> None:
    """Have MLflow, from here to the end of this process, copy the tables that it has made before."""
    make, kept = utils._initialize_tables, folder / "empty.db"

    def copy(engine: Engine) -> None:
        if engine.dialect.name != "sqlite":
            make(engine)  # type: ignore[no-untyped-call]
            return
        with FileLock(folder / "empty.lock"):
            if not kept.is_file():
                unfinished = kept.with_suffix(".unfinished")
                first = utils.create_sqlalchemy_engine(f"sqlite:///{unfinished}")  # type: ignore[no-untyped-call]
                make(first)  # type: ignore[no-untyped-call]
                first.dispose()
                unfinished.rename(kept)
        with closing(sqlite3.connect(kept)) as source, closing(engine.raw_connection()) as target:
            connection = target.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            source.backup(connection)

    utils._initialize_tables = copy
