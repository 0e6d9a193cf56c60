"""The place of a local store: the address of its database, and the files of its runs in the folder they belong to.

MLflow records where files are as absolute addresses, which are wrong as soon as a folder is moved, copied or mounted
elsewhere. Here they follow from the folder and the run's id alone; what is recorded is put right for MLflow's pages.
"""

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path

from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)

ARTIFACTS = "artifacts"
"""Folder, in the tracking folder, of the runs' files."""

_RECORDED: Mapping[str, str] = {
    "runs": (
        "SELECT run_uuid, artifact_uri, '/' || run_uuid || '/artifacts' FROM runs "
        "WHERE experiment_id = :experiment AND substr(artifact_uri, 1, length(:here)) != :here"
    ),
    "trace_tags": (
        "SELECT request_id, value, '/traces/' || request_id || '/artifacts' FROM trace_tags JOIN trace_info "
        "USING (request_id) WHERE experiment_id = :experiment AND key = 'mlflow.artifactLocation' "
        "AND substr(value, 1, length(:here)) != :here"
    ),
}
"""Which addresses of files do not begin as they should: an id, the address, and how it ends after the folder of all."""

_CORRECTED: Mapping[str, str] = {
    "runs": "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
    "trace_tags": "UPDATE trace_tags SET value = ? WHERE request_id = ? AND key = 'mlflow.artifactLocation'",
}


class RunFiles:
    """The files of runs, all below one folder; no other file is read or written, whatever links lie there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, run_id: str, name: str = "") -> Path:
        """Find the place of a file of a run, which need not be there.

        Raises:
            UserError: it would be outside of the run's own folder.
        """
        own = self._root / run_id / "artifacts"
        path = own / name
        inside = self._root.resolve() / run_id
        if not run_id.isalnum() or not path.resolve().is_relative_to(inside):
            raise UserError(f"{path} leads out of {own}, so it is not used; put the file itself there, not a link.")
        return path

    def put(self, run_id: str, file: Path, folder: str = "") -> None:
        """Copy a file into a folder of a run, under its own name.

        Raises:
            UserError: the folder is outside of the run's own.
            OSError: it cannot be written.
        """
        self.path(run_id, f"{folder}/{file.name}" if folder else file.name)
        own = LocalArtifactRepository(self.path(run_id).as_uri())
        own.log_artifact(str(file), folder or None)  # type: ignore[no-untyped-call]

    def names(self, run_id: str, folder: str) -> list[str]:
        """List the files in a folder of a run."""
        place = self.path(run_id, folder)
        return sorted(f"{folder}/{file.name}" for file in place.iterdir()) if place.is_dir() else []


def database_uri(database: Path) -> str:
    """Give the address by which MLflow opens an SQLite file.

    Raises:
        UserError: there is none.
    """
    from sqlalchemy import make_url  # only now: servers do without it

    # Only what SQLAlchemy would take for something else: MLflow makes folders of the name that it finds in the address.
    uri = "sqlite:///" + str(database).replace("%", "%25").replace("?", "%3F")
    if make_url(uri).database != str(database):
        raise UserError(f"{database} cannot be opened by this SQLAlchemy; choose a tracking.folder without ? and %.")
    return uri


@contextmanager
def no_stray_folders(database: Path) -> Iterator[None]:
    """Around the opening of a database: remove the empty folders that MLflow makes of an address with escapes in it."""
    quoted = Path(database_uri(database).removeprefix("sqlite:///")).parent
    strays = [] if quoted == database.parent else [each for each in (quoted, *quoted.parents) if not each.exists()]
    try:
        yield
    finally:
        for stray in strays:
            if stray.is_dir() and not any(stray.iterdir()):
                stray.rmdir()


@contextmanager
def open_database(database: Path) -> Iterator[sqlite3.Connection]:
    """Connect to an SQLite file that is there; what SQLite refuses is told.

    Raises:
        UserError: it is damaged, locked for long, or no database.
    """
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=60)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise UserError(
            f"The MLflow store refused: {one_line(str(error))}; mend that, or choose another tracking.folder "
            f"({database})."
        ) from error


def find_files(database: Path, folder: Path, experiment: str) -> Path:
    """Find the folder of the files of an experiment's runs, of which the database knows the name but not the place.

    Raises:
        UserError: they are in another folder, or the database is damaged.
    """
    with open_database(database) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
    if found is None:
        return folder / ARTIFACTS
    recorded = str(found[0])
    if urlsplit(recorded).scheme in ("", "file"):
        before = Path(local_file_uri_to_path(recorded))  # type: ignore[no-untyped-call]
        here = folder / before.name
        if before.name not in ("", "..") and (before.name == ARTIFACTS or here.is_dir() or not before.exists()):
            return here
    raise UserError(
        f"The MLflow experiment {experiment} keeps its files in {one_line(recorded)}, outside of the tracking folder "
        f"{folder}, where quantexp keeps all of its own; choose another tracking.experiment."
    )


def relocate(database: Path, experiment: str, files: Path) -> None:
    """Let a database say that the files of an experiment are where they are now, for MLflow's pages.

    Only addresses that end as MLflow would have made them are changed, and all at once. One that leads to the same
    folder, as through a link, stays.

    Args:
        database: of the store; the caller holds its lock.
        experiment: name of the experiment.
        files: the folder of its files.

    Raises:
        UserError: the database is damaged, or cannot be written.
    """
    with open_database(database) as connection:
        found = connection.execute(
            "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?", [experiment]
        )
        if (row := found.fetchone()) is None:
            return
        number, location = row
        moved: dict[str, bool] = {}  # by the address of a folder, whether it is the old place of these files

        def is_old(address: str) -> bool:
            if address not in moved:
                moved[address] = address.rpartition("/")[2] == files.name and not _is_same(address, files)
            return moved[address]

        changes: list[tuple[str, tuple[str, str]]] = []
        foreign: list[tuple[str, str]] = []
        if is_old(location):
            statement = "UPDATE experiments SET artifact_location = ? WHERE name = ?"
            changes.append((statement, (files.as_uri(), experiment)))
        for table, query in _RECORDED.items():
            for key, address, end in connection.execute(query, {"experiment": number, "here": f"{files.as_uri()}/"}):
                root = str(address).removesuffix(end)
                if root != address and is_old(root):
                    changes.append((_CORRECTED[table], (files.as_uri() + end, key)))
                elif root == address or root.rpartition("/")[2] != files.name:
                    foreign.append((key, str(address)))
        if changes:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement, values in changes:
                    connection.execute(statement, values)
            log.info("the store was moved or copied to %s: MLflow finds its files there now", files.parent)
    if foreign:
        log.warning(
            "the database says that files of %s are in %s, and of %d runs altogether that they are elsewhere; only "
            "those in %s are read and written", foreign[0][0][:8], one_line(foreign[0][1]), len(foreign), files,
        )  # fmt: skip


def _is_same(address: str, folder: Path) -> bool:
    """Tell if an address is that of the folder, also through a link or a second mount."""
    if address == folder.as_uri():
        return True
    if urlsplit(address).scheme not in ("", "file"):
        return False
    before = Path(local_file_uri_to_path(address))  # type: ignore[no-untyped-call]
    return before.exists() and folder.exists() and before.samefile(folder)
