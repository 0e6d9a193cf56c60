"""Copies of a sweep that a test may change."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def copied(swept: Path, folder: Path) -> None:
    """A copy of a sweep's store that knows its new place: the addresses of artifacts in it are absolute.

    SQLite copies its own file. Were it opened and closed like any other, the locks of this process's connections to it
    would be gone with that (POSIX), and they would go on reading what another process has moved away.
    """
    shutil.copytree(swept / "mlruns" / "artifacts", folder / "mlruns" / "artifacts")
    with (
        closing(sqlite3.connect(swept / "mlruns" / "mlflow.db")) as source,
        closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as copy,
    ):
        source.backup(copy)
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            copy.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(swept), str(folder)))
        copy.commit()
