"""A store belongs to the folder that it lies in: moved, copied, linked, mounted, in a folder of any name, foreign."""

import hashlib
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from running import until
from tests.support.copies import copy_database
from tests.support.forking import Forker
from tests.support.stores import client_of, runs_of
from tests.support.variants import mark_slow

import quantexp
from quantexp.config import TrackingConfig
from quantexp.tracking.backend import Access
from quantexp.tracking.location import RunFiles
from quantexp.tracking.store import Store
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]

QUICK = ("task.limit=3", "task.shots=1", "task.max_tokens=64", "engine.threads=1")
SWEEP = ("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa,extraction", "seed=0", *QUICK)
"""The sweep that `swept` has run."""


def copy(source: Path, target: Path) -> None:
    """`cp -a` of the store in a folder, but for the database."""
    (target / "mlruns").mkdir(parents=True, exist_ok=True)
    others = [str(path) for path in (source / "mlruns").iterdir() if not path.name.startswith("mlflow.db")]
    subprocess.run(["cp", "-a", *others, str(target / "mlruns")], check=True)
    copy_database(source, target)


def sweep_of(folder: Path) -> str:
    [sweep] = runs_of(folder, "sweep")
    return str(sweep.info.run_id)


def state_of(folder: Path) -> dict[str, str]:
    """The hash of every file; of a database what it says, for SQLite keeps files beside it."""
    found = {}
    for path in folder.rglob("*"):
        if path.name == "mlflow.db":
            with closing(sqlite3.connect(path)) as database:
                content = "\n".join(database.iterdump()).encode()
        elif not path.is_file() or path.name.startswith("mlflow"):
            continue
        else:
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def addresses_in(folder: Path) -> set[str]:
    """Where the database says that the files of runs are: their beginnings."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        runs = database.execute("SELECT artifact_uri, run_uuid FROM runs").fetchall()
        own = database.execute("SELECT artifact_location FROM experiments WHERE name = 'quantexp'").fetchall()
    return {address.removesuffix(f"/{run}/artifacts") for address, run in runs} | {address for (address,) in own}


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    """A copy of a finished sweep in a folder p, which knows nothing of `swept` any more."""
    copy(swept, tmp_path / "p")
    Store(TrackingConfig(str(tmp_path / "p" / "mlruns")))
    assert addresses_in(tmp_path / "p") == {(tmp_path / "p" / "mlruns" / "artifacts").as_uri()}
    return tmp_path / "p"


def test_a_moved_store_goes_on_in_its_new_place(store: Path, command: Command, cache: Path) -> None:
    moved = store.with_name("q")
    store.rename(moved)
    status, out, err = command(moved, "quantexp", *SWEEP, f"model.cache={cache}")
    assert (status, err.count("finished before")) == (0, 4), err
    assert f"the store was moved or copied to {moved}/mlruns" in err
    assert "report  " in out
    assert not store.exists()
    assert addresses_in(moved) == {(moved / "mlruns" / "artifacts").as_uri()}
    assert Path(client_of(moved).download_artifacts(sweep_of(moved), "report.md")).is_file()
    assert len(quantexp.load(folder=moved / "mlruns").items) == 12


def test_a_copy_changes_nothing_in_the_store_that_it_was_made_of(store: Path, command: Command) -> None:
    before = state_of(store)
    copied = store.with_name("q")
    copy(store, copied)
    assert len(quantexp.load(folder=copied / "mlruns").conditions) == 4
    assert state_of(copied) == before, "loading writes nothing, not even the right addresses"
    status, _, err = command(copied, "quantexp.aggregate", "stats.resamples=100")
    assert status == 0, err
    assert state_of(store) == before
    assert state_of(copied) != before
    assert addresses_in(copied) == {(copied / "mlruns" / "artifacts").as_uri()}


@pytest.mark.slow
def test_a_link_leads_to_the_same_store(store: Path, command: Command) -> None:
    link = store.with_name("link")
    link.symlink_to(store)
    addresses = addresses_in(store)
    status, _, err = command(store.parent, "quantexp.aggregate", "tracking.folder=link/mlruns")
    assert (status, "moved" in err) == (0, False), err
    assert addresses_in(store) == addresses
    store.rename(store.with_name("q"))
    store.symlink_to("q")
    status, _, err = command(store.parent, "quantexp.aggregate", "tracking.folder=q/mlruns")
    assert (status, "moved" in err) == (0, False), err  # the old address leads here


@contextmanager
def mounted(source: Path, target: Path, *options: str) -> Iterator[None]:
    """A folder at a second place; who may not mount skips the test."""
    target.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("only root may mount")
    try:
        for option in options:
            subprocess.run(["mount", "-o", f"remount,bind,{option}", str(target)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)  # this process may have it open


@pytest.mark.skipif(shutil.which("mount") is None or os.getuid() != 0, reason="only root may mount")
@pytest.mark.slow
def test_a_mounted_store_is_read_and_written_where_it_is(store: Path, command: Command, cache: Path) -> None:
    before, place, out_of_it = state_of(store), store.with_name("mounted"), store.with_name("work")
    out_of_it.mkdir()
    folder = f"tracking.folder={place}/mlruns"
    with mounted(store, place, "ro"):
        status, out, err = command(out_of_it, "quantexp.aggregate", folder)
        assert (status, "Traceback" in err) == (0, False), err
        assert "cannot be written, so the comparison is not recorded in it" in err
        assert "copy it, and browse the copy" in out
        assert command(out_of_it, "quantexp.plan", folder)[0] == 0
        assert len(quantexp.load(folder=place / "mlruns").comparisons) == 2
        for refused in (
            ("quantexp", *SWEEP, f"model.cache={cache}", "store.folder=here"),
            ("quantexp.regrade", "grader=triviaqa-contains"),
        ):
            status, _, err = command(out_of_it, *refused, folder)
            assert (status, err.splitlines()[-1]) == (
                2,
                f"quantexp: The store in {place}/mlruns cannot be written (its owner or its file system does not allow "
                "it); copy it, or choose another tracking.folder.",
            )
    assert state_of(store) == before
    with mounted(store, place):
        assert command(out_of_it, "quantexp.aggregate", folder)[0] == 0
        assert addresses_in(store) == {(store / "mlruns" / "artifacts").as_uri()}


ABOVE_PERMISSIONS = (1, 2, 3)
"""Linux's capabilities DAC_OVERRIDE, DAC_READ_SEARCH and FOWNER, by which root may write all the same."""


def test_who_may_not_write_can_read_and_is_told(store: Path, forker: Forker) -> None:
    before, work = state_of(store), store.with_name("work")
    work.mkdir()
    subprocess.run(["chmod", "-R", "a-w", str(store)], check=True)
    if os.getuid() == 0:  # here another user's store is as good
        subprocess.run(["chown", "-R", "65534", str(store)], check=True)
    arguments = (f"tracking.folder={store}/mlruns", "stats.resamples=100")
    without = ABOVE_PERMISSIONS if os.getuid() == 0 else ()
    running = forker.start(work, "quantexp.aggregate", *arguments, without=without)
    status, _, err = running.communicate(900)
    assert (status, "Traceback" in err) == (0, False), err
    assert "cannot be written, so the comparison is not recorded in it" in err
    assert len(list(work.glob("multirun/*/*/report/report.html"))) == 1
    subprocess.run(["chmod", "-R", "u+w", str(store)], check=True)
    assert state_of(store) == before


NAMES = ("run?1", "a%20b", "é ü 中", 'it\'s "q"')
MORE_NAMES = ("run?a=b&c", "100%", "a#b", "sp ace", "a;b", "~x", "[a]")


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_NAMES)])
def test_a_folder_may_have_any_name(store: Path, name: str) -> None:
    place = store.with_name("names") / name
    place.parent.mkdir()
    store.rename(place)
    found = Store.open_existing(TrackingConfig(str(place / "mlruns")), Access.record)
    assert found is not None
    sweep = found.latest_sweep()
    assert len(found.jobs_of(sweep)[0]) == 4
    assert "report.md" in {each.path for each in found.client.list_artifacts(sweep)}
    addresses = {f"{(place / 'mlruns' / 'artifacts').as_uri()}/{sweep}/artifacts"}
    assert {found.client.get_run(sweep).info.artifact_uri} == addresses
    assert Path(found.client.download_artifacts(sweep, "report.md")).is_file()
    assert [path.name for path in place.parent.iterdir()] == [name]


def test_folders_that_differ_after_a_question_mark_have_stores_of_their_own(tmp_path: Path) -> None:
    for name in ("run?1", "run?2"):
        Store(TrackingConfig(str(tmp_path / name / "mlruns"))).start("job", "job", None, {"in": name}).close("FINISHED")
    for name in ("run?1", "run?2"):
        [run] = runs_of(tmp_path / name, "job")
        assert run.data.tags["in"] == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run?1", "run?2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "run?1 100%"])
def test_mlflow_shows_the_files_of_a_moved_store(store: Path, name: str) -> None:
    place = store.with_name("shown") / name
    place.parent.mkdir()
    store.rename(place)
    found = Store.open_existing(TrackingConfig(str(place / "mlruns")), Access.record)
    assert found is not None
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = found.browse.replace("mlflow ui", f"{shlex.quote(sys.executable)} -m mlflow ui")
    shell = ["sh", "-c", f"{command} --port {port}"]
    server = subprocess.Popen(shell, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/get-artifact?path=report.md&run_uuid={found.latest_sweep()}"

        def read() -> bytes:
            try:
                with urlopen(address, timeout=60) as answer:
                    return bytes(answer.read())
            except URLError:
                return b""

        assert b"Q3_K_M" in until("the page", read, process=server)
    finally:
        server.terminate()
        server.wait(timeout=60)
    assert [path.name for path in place.parent.iterdir()] == [name]


def test_many_may_open_a_moved_store_at_once(store: Path) -> None:
    moved = store.with_name("q")
    store.rename(moved)
    config = TrackingConfig(str(moved / "mlruns"))
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: Store(config), range(4)))
    assert {each.latest_sweep() for each in opened} == {sweep_of(moved)}
    assert addresses_in(moved) == {(moved / "mlruns" / "artifacts").as_uri()}


def test_traces_move_too(tmp_path: Path) -> None:
    folder = tmp_path / "p" / "mlruns"
    first = Store(TrackingConfig(str(folder)))
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        here = (folder / "artifacts").as_uri()
        database.execute(
            "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES ('tr-1', ?, 0, 'OK')",
            [first.experiment],
        )
        database.execute(
            "INSERT INTO trace_tags (key, value, request_id) VALUES ('mlflow.artifactLocation', ?, 'tr-1')",
            [f"{here}/traces/tr-1/artifacts"],
        )
    (tmp_path / "p").rename(tmp_path / "q")
    Store(TrackingConfig(str(tmp_path / "q" / "mlruns")))
    with closing(sqlite3.connect(tmp_path / "q" / "mlruns" / "mlflow.db")) as database:
        [(value,)] = database.execute("SELECT value FROM trace_tags WHERE key = 'mlflow.artifactLocation'").fetchall()
    assert value == f"{(tmp_path / 'q' / 'mlruns' / 'artifacts').as_uri()}/traces/tr-1/artifacts"


# Somebody else's store


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder that no store may touch."""
    folder = tmp_path / "victim"
    folder.mkdir()
    for name in ("report.md", "report.html", "flips.json"):
        (folder / name).write_text("mine")
    return folder


def change(folder: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database, database:
        assert database.execute(statement, values).rowcount


def untouched(victim: Path) -> bool:
    return {path.name: path.read_text() for path in victim.rglob("*") if path.is_file()} == dict.fromkeys(
        ("report.md", "report.html", "flips.json"), "mine"
    )


FORMS = ("{uri}", "{path}", "{uri}/../victim", "{link}", "{path}/{run}/artifacts")


@pytest.mark.parametrize("form", mark_slow(FORMS, after=1))
def test_a_database_does_not_say_where_a_sweep_is_written(
    store: Path, victim: Path, command: Command, form: str
) -> None:
    run, link = sweep_of(store), store / "mlruns" / "artifacts" / "link"
    link.symlink_to(victim)
    address = form.format(uri=victim.as_uri(), path=victim, run=run, link=link)
    change(store, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", address, run)
    status, _, err = command(store, "quantexp.aggregate", "stats.resamples=100")
    assert (status, "Traceback" in err) == (0, False), err
    assert untouched(victim)
    assert "that they are elsewhere; only those in" in err
    assert (store / "mlruns" / "artifacts" / run / "artifacts" / "report.md").stat().st_mtime > time.time() - 300


def test_a_database_does_not_say_where_an_experiment_is_written(store: Path, victim: Path, command: Command) -> None:
    statement = "UPDATE experiments SET artifact_location = ? WHERE name = 'quantexp'"
    config = TrackingConfig(str(store / "mlruns"))
    for address in (victim.as_uri(), "s3://bucket/artifacts", "mlflow-artifacts:/1", f"file://{victim}/.."):
        change(store, statement, address)
        sentence = f"The MLflow experiment quantexp keeps its files in {address}, outside of the "
        with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
            Store.open_existing(config, Access.record)
    status, _, err = command(store, "quantexp.aggregate")
    assert (status, err.count("\n"), err.startswith(f"quantexp: {sentence}")) == (2, 1, True)
    assert untouched(victim)
    change(store, statement, f"{victim.as_uri()}/artifacts")  # as after a move
    assert command(store, "quantexp.aggregate", "stats.resamples=100")[0] == 0
    assert untouched(victim)


def test_links_in_a_store_lead_nowhere_else(store: Path, victim: Path, command: Command) -> None:
    own = store / "mlruns" / "artifacts" / sweep_of(store) / "artifacts"
    (own / "report.md").unlink()
    (own / "report.md").symlink_to(victim / "report.md")
    status, _, err = command(store, "quantexp.aggregate", "stats.resamples=100")
    assert (status, err.splitlines()[-1]) == (
        2,
        f"quantexp: {own}/report.md leads out of {own}, so it is not used; put the file itself there, not a link.",
    )
    assert untouched(victim)
    (own / "report.md").unlink()
    shutil.move(own, store / "elsewhere")
    own.symlink_to(victim)
    assert command(store, "quantexp.aggregate", "stats.resamples=100")[0] == 2
    assert untouched(victim)
    with pytest.raises(UserError, match="leads out of"):
        RunFiles(store).path("../victim", "report.md")


def test_the_artifacts_may_be_on_another_disk(store: Path, command: Command) -> None:
    disk = store.with_name("disk")
    shutil.move(store / "mlruns" / "artifacts", disk)
    (store / "mlruns" / "artifacts").symlink_to(disk)
    status, _, err = command(store, "quantexp.aggregate", "stats.resamples=100")
    assert status == 0, err
    assert (disk / sweep_of(store) / "artifacts" / "report.md").is_file()
