"""Databases of other versions of MLflow, and of other programs, where a store is looked for."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from alembic import command as alembic
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base
from tests.support.stores import client_of, runs_of

import quantexp
from quantexp.config import TrackingConfig
from quantexp.tracking.backend import Access
from quantexp.tracking.store import Store
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlruns").mkdir()
    return tmp_path / "mlruns"


def execute(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def tables_of(database: Path) -> str:
    with closing(sqlite3.connect(database)) as opened:
        return "\n".join(opened.iterdump())


FOREIGN = {
    "another program's": (
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('1')",
    ),
    "without versions": ("CREATE TABLE runs (x)", "CREATE TABLE experiments (x)", "CREATE TABLE tags (x)"),
    "of one table": ("CREATE TABLE notes (x)",),
}


@pytest.mark.parametrize("statements", FOREIGN.values(), ids=FOREIGN)
def test_another_program_s_database_is_refused_and_left_alone(
    folder: Path, command: Command, statements: tuple[str, ...]
) -> None:
    execute(folder, *statements)
    before = tables_of(folder / "mlflow.db")
    for module in ("quantexp.aggregate", "quantexp.plan"):
        status, _, err = command(folder.parent, module)
        assert (status, err) == (
            2,
            f"quantexp: {folder}/mlflow.db is not MLflow's: it is another program's database, or only part of one; "
            "choose another tracking.folder.\n",
        )
    with pytest.raises(UserError, match=r"is not MLflow's"):
        Store(TrackingConfig(str(folder)))
    assert tables_of(folder / "mlflow.db") == before


@pytest.mark.parametrize(("writer", "advice"), [("99.1.0", ">=99.1.0"), (None, f">{mlflow.__version__}")])
def test_a_newer_store_is_refused_with_what_to_install(
    folder: Path, command: Command, writer: str | None, advice: str
) -> None:
    Store(TrackingConfig(str(folder))).start("job", "job", None, {"mlflow.version": writer} if writer else {})
    execute(folder, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = tables_of(folder / "mlflow.db")
    status, _, err = command(folder.parent, "quantexp.aggregate")
    assert (status, err) == (
        2,
        f"quantexp: {folder}/mlflow.db is of a newer MLflow than the {mlflow.__version__} that is installed here (its "
        f"tables have the version ffffffffffff): upgrade with: pip install 'mlflow{advice}', or choose another "
        "tracking.folder.\n",
    )
    with pytest.raises(quantexp.UserError, match="is of a newer MLflow"):
        quantexp.load(folder=folder)
    assert tables_of(folder / "mlflow.db") == before


def make_older(folder: Path, back: int) -> None:
    """A store as an MLflow some versions ago made it, with a run."""
    config = _get_alembic_config("")  # type: ignore[no-untyped-call]
    revisions = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    engine = create_sqlalchemy_engine(f"sqlite:///{folder / 'mlflow.db'}")  # type: ignore[no-untyped-call]
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, revisions[back])
    engine.dispose()
    here = (folder / "artifacts").as_uri()
    execute(
        folder,
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        f"VALUES (1, 'quantexp', '{here}', 'active')",
        "INSERT INTO runs (run_uuid, name, experiment_id, status, lifecycle_stage, artifact_uri, start_time, user_id) "
        f"VALUES ('{'a' * 32}', 'old', 1, 'FINISHED', 'active', '{here}/{'a' * 32}/artifacts', 1, 'me')",
        f"INSERT INTO tags (key, value, run_uuid) VALUES ('quantexp.kind', 'sweep', '{'a' * 32}')",
    )


@pytest.mark.parametrize("back", [1, 30])
def test_an_older_store_is_changed_with_a_word_and_a_copy(
    folder: Path, back: int, caplog: pytest.LogCaptureFixture
) -> None:
    make_older(folder, back)
    before = tables_of(folder / "mlflow.db")
    reading = Store.open_existing(TrackingConfig(str(folder)), Access.read)
    assert reading is not None
    assert reading.latest_sweep() == "a" * 32
    assert tables_of(folder / "mlflow.db") == before, "who only reads changes nothing"
    caplog.set_level(logging.WARNING)
    assert Store(TrackingConfig(str(folder))).latest_sweep() == "a" * 32
    copy = folder / f"mlflow.before-{mlflow.__version__}.db"
    assert f"was written by an older MLflow; its tables are being changed for {mlflow.__version__}" in caplog.text
    assert str(copy) in caplog.text
    assert tables_of(copy) == before
    [run] = runs_of(folder.parent, "sweep")
    assert run.info.run_name == "old"
    assert client_of(folder.parent).get_experiment_by_name("quantexp") is not None
    Store(TrackingConfig(str(folder)))
    assert caplog.text.count("was written by an older MLflow") == 1


def test_a_second_attempt_keeps_the_copy_of_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_older(folder, 1)
    before = tables_of(folder / "mlflow.db")

    def fail_half_way(engine: Any) -> None:
        with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS half (x)")
        raise CommandError("the disk is full")

    monkeypatch.setattr("quantexp.tracking.migration._upgrade_db", fail_half_way)
    copy = folder / f"mlflow.before-{mlflow.__version__}.db"
    for _ in range(2):
        with pytest.raises(UserError, match=rf"could not be changed .*the disk is full.*; put back {copy.name}"):
            Store(TrackingConfig(str(folder)))
        assert tables_of(copy) == before


def test_an_empty_file_is_no_store_yet(folder: Path) -> None:
    (folder / "mlflow.db").touch()
    assert Store.open_existing(TrackingConfig(str(folder))) is None
    Store(TrackingConfig(str(folder))).start("job", "job", None, {}).close("FINISHED")
    assert len(runs_of(folder.parent, "job")) == 1
