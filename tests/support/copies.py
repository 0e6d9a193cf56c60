"""Copies of a sweep that a test may change."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def copy_database(source: Path, target: Path) -> None:
    """Copy the database of the store in a folder.

    By SQLite itself. Were its file opened and closed like any other, the locks of this process's connections to it
    would be gone with that (POSIX), and they would go on reading what another process has moved away. The files beside
    it go whenever the last process that reads it does.
    """
    with (
        closing(sqlite3.connect(source / "mlruns" / "mlflow.db")) as database,
        closing(sqlite3.connect(target / "mlruns" / "mlflow.db")) as copy,
    ):
        database.backup(copy)


def copied(swept: Path, folder: Path) -> None:
    """A copy of a sweep's store that knows its new place: the addresses of artifacts in it are absolute."""
    shutil.copytree(swept / "mlruns" / "artifacts", folder / "mlruns" / "artifacts")
    copy_database(swept, folder)
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as copy:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            copy.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(swept), str(folder)))
        copy.commit()
