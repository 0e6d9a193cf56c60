"""The version of a local store's tables, which has to be that of the MLflow that is installed."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.store.db.utils import _get_alembic_config, _upgrade_db, create_sqlalchemy_engine
from sqlalchemy.exc import SQLAlchemyError

from quantexp.tracking.location import database_uri, open_database
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)


def is_current(database: Path, shown: Path) -> bool:
    """Tell if the tables are those that the installed MLflow works with; if not, they are older ones.

    Args:
        database: the SQLite file.
        shown: what people know it by, if it is a copy.

    Raises:
        UserError: they are newer ones, or another program's.
    """
    with open_database(database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        found, writers = [], []
        if is_mlflow := {"alembic_version", "experiments", "runs", "tags"} <= tables:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            writers = _list_writers(connection)
    if not is_mlflow or len(found) != 1:
        raise UserError(
            f"{shown} is not MLflow's: it is another program's database, or only part of one; choose another "
            "tracking.folder."
        )
    revision = str(found[0][0])
    script = ScriptDirectory.from_config(_get_alembic_config(""))  # type: ignore[no-untyped-call]
    if revision in script.get_heads():
        return True
    if revision in {each.revision for each in script.walk_revisions()}:
        return False
    newest = max(writers, default=())
    needed = f">={'.'.join(map(str, newest))}" if newest > _numbers(mlflow.__version__) else f">{mlflow.__version__}"
    raise UserError(
        f"{shown} is of a newer MLflow than the {mlflow.__version__} that is installed here (its tables have the "
        f"version {one_line(revision, 40)}): upgrade with: pip install 'mlflow{needed}', or choose another "
        "tracking.folder."
    )


def upgrade_tables(database: Path, *, keep: bool, shown: Path | None = None) -> None:
    """Let the installed MLflow change older tables into its own.

    Args:
        database: the SQLite file; the caller holds its lock.
        keep: whether a copy stays beside it, since an older MLflow cannot read the tables afterwards.
        shown: what people know it by, if it is a copy.

    Raises:
        UserError: it could not.
    """
    if keep:
        copy = database.with_name(f"mlflow.before-{mlflow.__version__}.db")
        if not copy.exists():  # one of an attempt that has failed is the only whole one
            unfinished = copy.with_suffix(".unfinished")
            unfinished.unlink(missing_ok=True)
            with open_database(database) as connection, closing(sqlite3.connect(unfinished)) as target:
                connection.backup(target)
            unfinished.replace(copy)
        log.warning(
            "%s was written by an older MLflow; its tables are being changed for %s, and no older one can open it "
            "afterwards; as it was: %s", database, mlflow.__version__, copy,
        )  # fmt: skip
    engine = create_sqlalchemy_engine(database_uri(database))  # type: ignore[no-untyped-call]
    try:
        _upgrade_db(engine)  # type: ignore[no-untyped-call]
    except (CommandError, SQLAlchemyError) as error:
        mend = f"put back {copy.name}, which lies beside it" if keep else "open it once where it can be written"
        raise UserError(
            f"The tables of {shown or database} could not be changed for MLflow {mlflow.__version__} "
            f"({one_line(str(error))}); {mend}, or use the MLflow that wrote it."
        ) from error
    finally:
        engine.dispose()


def _list_writers(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    """List the versions of MLflow that runs have been recorded with."""
    found = connection.execute("SELECT DISTINCT value FROM tags WHERE key = 'mlflow.version'")
    return [_numbers(str(value)) for (value,) in found]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
