"""Runs on a real MLflow server, which is killed, started again, and refuses; nothing of a job is lost."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from running import until
from tests.support.copies import copied
from tests.support.dying import order_deaths
from tests.support.forking import Forker
from tests.support.stores import client_of, runs_of
from tests.support.tracking_servers import Proxy, TrackingServer

import quantexp
from quantexp.config import TrackingConfig
from quantexp.tracking.operations import Data, End, File, Name, Operation, Record, Scores, Traces, decode, encode
from quantexp.tracking.outbox import ATTEMPTS, NUMBER, _whole_lines
from quantexp.tracking.run import Run
from quantexp.tracking.store import Store

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(server: TrackingServer, tmp_path: Path) -> TrackingConfig:
    """An experiment of its own for each test."""
    return TrackingConfig(str(tmp_path / "mlruns"), f"quantexp {tmp_path.name}", uri=server.url)


@pytest.fixture
def store(config: TrackingConfig) -> Store:
    return Store(config)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts at a dead server end at once: for tests that want it dead."""
    monkeypatch.setitem(ATTEMPTS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


AT_ONCE = {"quantexp.tracking.outbox.ATTEMPTS": ATTEMPTS | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}}
"""Attributes of commands that give up a dead server at once, as `quickly` has it here."""


def on_server(uri: str, tmp_path: Path) -> tuple[str, ...]:
    return "tracking=server", f"tracking.uri={uri}", f"tracking.experiment='quantexp {tmp_path.name}'"


def quick(cache: Path) -> tuple[str, ...]:
    return "task.limit=3", "task.shots=1", "task.max_tokens=64", "engine.threads=1", f"model.cache={cache}"


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "mlruns" / "outbox").glob("*/journal.jsonl"))


def record(run: Run) -> None:
    """What a job does to its run."""
    run.log(params={"quant.name": "Q8_0"}, metrics={"score": 0.25}, tags={"task": "gsm8k"})
    run.log_yaml("a: 1\n", "config.yaml")
    run.log_yaml("- 1\n+ 2\n", "regrade/a..b.diff")
    run.rename("gsm8k 08.51 Q8_0 seed 0")
    run.log_dataset("bundled-gsm8k", "f" * 64, 24, "bundled")
    run.log_items(pd.DataFrame({"item_id": ["a", "b"], "cluster": ["a", "b"], "score": [0.0, 0.5]}))
    run.log_scores(pd.DataFrame({"item_id": ["a", "b"], "cluster": ["a", "b"], "score": [0.0, 0.5]}))
    run.describe("**Fine.**", {})


def check_recorded(server: TrackingServer, experiment: str) -> None:
    """All of it is there, once."""
    [found] = server.runs("job", experiment)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "gsm8k 08.51 Q8_0 seed 0"
    assert (found.data.params, found.data.metrics) == ({"quant.name": "Q8_0"}, {"score": 0.25})
    assert found.data.tags["task"] == "gsm8k"
    assert found.data.tags["mlflow.note.content"].startswith("**Fine.**")
    assert json.loads(found.data.tags["mlflow.loggedArtifacts"]) == [{"path": "items.json", "type": "table"}]
    assert found.inputs is not None
    [data] = found.inputs.dataset_inputs
    assert data.dataset.name == "bundled-gsm8k"
    client, run_id = server.client, found.info.run_id
    assert {each.path for each in client.list_artifacts(run_id)} == {
        "config.yaml", "items.json", "items.parquet", "regrade", "scores.arrow",
    }  # fmt: skip
    assert [each.path for each in client.list_artifacts(run_id, "regrade")] == ["regrade/a..b.diff"]
    assert list(pd.read_parquet(client.download_artifacts(run_id, "items.parquet"))["score"]) == [0, 0.5]
    assert len(client.get_metric_history(run_id, "score")) == 1


def test_a_sweep_on_a_server_is_what_a_local_one_is(
    server: TrackingServer,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    command: Command,
    cache: Path,
    swept: Path,
) -> None:
    where = on_server(server.url, tmp_path)
    arguments = ("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa", *quick(cache))
    here = tmp_path_factory.mktemp("here")
    copied(swept, here)
    status, local, err = command(here, "quantexp", *arguments)
    assert (status, err.count("finished before")) == (0, 2), err
    status, out, err = command(tmp_path, "quantexp", *arguments, *where)
    assert status == 0, err
    assert out.partition("Declared")[0] == local.partition("Declared")[0]
    experiment = f"quantexp {tmp_path.name}"
    [sweep] = server.runs("sweep", experiment)
    assert sweep.info.status == "FINISHED"
    page = f"{server.url}/#/experiments/{sweep.info.experiment_id}/runs?"
    assert [line.partition("http")[0] for line in out.splitlines()[-2:]] == ["browse  ", " " * 8]
    assert all(page in line for line in out.splitlines()[-2:])
    assert "View run" not in out + err
    assert not kept(tmp_path)
    assert not list(tmp_path.rglob("mlflow.db"))

    there = server.runs("job", experiment)
    local_runs = [run for run in runs_of(swept, "job") if run.data.tags["task"] == "triviaqa"]
    assert [run.info.run_name for run in there] == [run.info.run_name for run in local_runs]
    for remote, own in zip(there, local_runs, strict=True):
        assert remote.data.params | {"tracking.folder": "", "tracking.uri": "", "tracking.experiment": ""} == (
            own.data.params | {"tracking.folder": "", "tracking.uri": "", "tracking.experiment": ""}
        )
        assert remote.data.metrics.keys() == own.data.metrics.keys()
        there_items, own_items = (
            pd.read_parquet(client.download_artifacts(run.info.run_id, "items.parquet"))
            for client, run in ((server.client, remote), (client_of(swept), own))
        )
        pd.testing.assert_frame_equal(there_items, own_items)

    status, out, err = command(tmp_path, "quantexp", *arguments, *where)
    assert (status, err.count("finished before")) == (0, 2), err
    status, out, err = command(tmp_path, "quantexp.aggregate", *where)
    assert status == 0, err
    assert out.partition("Declared")[0] == local.partition("Declared")[0]
    loaded = quantexp.load(experiment=experiment, uri=server.url)
    assert len(loaded.items) == 6


def test_a_job_goes_to_the_server_step_by_step(server: TrackingServer, store: Store, config: TrackingConfig) -> None:
    run = store.start("a job", "job", None, {})
    [begun] = server.runs("job", config.experiment)
    assert begun.info.status == "RUNNING"
    record(run)
    [going] = server.runs("job", config.experiment)
    assert going.data.metrics == {"score": 0.25}
    run.close("FINISHED")
    check_recorded(server, config.experiment)
    assert not list(Path(config.folder).glob("outbox/*"))


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("there", ["never", pytest.param("at the beginning", marks=pytest.mark.slow)])
def test_a_job_that_ends_without_its_server_is_sent_later(
    there: str, server: TrackingServer, config: TrackingConfig, tmp_path: Path, command: Command
) -> None:
    with Proxy(server.url) as way:
        store = Store(replace(config, uri=way.url))
        if there == "at the beginning":
            run = store.start("a job", "job", None, {})
    if there == "never":
        run = store.start("a job", "job", None, {})
    record(run)
    run.close("FINISHED")
    assert len(kept(tmp_path)) == 1

    where = on_server(way.url, tmp_path)
    status, out, err = command(tmp_path, "quantexp.sync", *where, attributes=AT_ONCE)
    assert (status, out) == (2, "")
    assert f"The tracking server {way.url} does not answer (Connection refused)" in err
    assert len(kept(tmp_path)) == 1

    with Proxy(server.url, port=way.port):
        status, out, err = command(tmp_path, "quantexp.sync", *where)
        assert (status, err) == (0, ""), err
        assert out == f"sent a job\n1 runs sent to {way.url}; 0 are left\n"
        check_recorded(server, config.experiment)
        assert not list(Path(config.folder).glob("outbox/*"))
        assert command(tmp_path, "quantexp.sync", *where)[1] == f"0 runs sent to {way.url}; 0 are left\n"


def test_a_lost_answer_makes_no_second_run(server: TrackingServer, config: TrackingConfig) -> None:
    ends = ["runs/create", "runs/log-batch", "runs/set-tag", "runs/update", "items.parquet", "runs/log-inputs"]
    with Proxy(server.url) as proxy:
        store = Store(TrackingConfig(config.folder, config.experiment, uri=proxy.url))
        store.check()
        proxy.cut.extend(ends)
        with store.start("a job", "job", None, {}) as run:
            record(run)
        assert (proxy.lost, proxy.cut) == (len(ends), [])
    check_recorded(server, config.experiment)


def test_a_killed_jobs_run_is_closed_by_the_next_command(
    server: TrackingServer, tmp_path: Path, forker: Forker, command: Command, cache: Path
) -> None:
    where = on_server(server.url, tmp_path)
    long = ("task=gsm8k", "task.shots=0", "task.max_tokens=32", "engine.lanes=2", "engine.threads=1")
    job = forker.start(tmp_path, "quantexp", *long, f"model.cache={cache}", *where)
    experiment = f"quantexp {tmp_path.name}"
    until(
        "an answer",
        lambda: any(b"\n" in path.read_bytes() for path in tmp_path.rglob("completions/*.jsonl")),
        process=job,
        log=lambda: job.err,
    )
    job.send_signal(signal.SIGKILL)
    job.communicate(900)
    [run] = server.runs("job", experiment)
    assert run.info.status == "RUNNING"
    status, _, err = command(tmp_path, "quantexp.sync", *where)
    assert status == 0, err
    [run] = server.runs("job", experiment)
    assert (run.info.status, run.data.tags["error"]) == ("KILLED", "its process was killed")
    assert not kept(tmp_path)


@pytest.mark.slow
def test_a_job_that_dies_is_failed_on_the_server(
    server: TrackingServer, tmp_path: Path, command: Command, cache: Path
) -> None:
    dying = order_deaths(tmp_path, "abort")
    where = on_server(server.url, tmp_path)
    status, _, err = command(tmp_path, "quantexp", *dying, f"model.cache={cache}", *where)
    assert status == 1, err
    [run] = server.runs("job", f"quantexp {tmp_path.name}")
    assert run.info.status == "FAILED"
    assert "GGML_ASSERT(eps >= 0.0f) failed" in run.data.tags["error"]
    assert kept(tmp_path) == []


def test_a_living_jobs_run_is_left_to_it(server: TrackingServer, store: Store, config: TrackingConfig) -> None:
    run = store.start("a job", "job", None, {})
    assert Store(config).send(patient=False).sent == []
    run.close("FINISHED")
    [found] = server.runs("job", config.experiment)
    assert found.info.status == "FINISHED"


@pytest.mark.slow
def test_a_sweep_goes_on_while_its_server_is_killed_and_started(
    tmp_path: Path, start: Start, cache: Path, swept: Path
) -> None:
    (tmp_path / "server").mkdir()
    with TrackingServer(tmp_path / "server") as server:
        where = on_server(server.url, tmp_path)
        arguments = ("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa,extraction", *quick(cache))
        sweep = start(tmp_path, "quantexp", *arguments, *where)
        until("the first job", lambda: server.runs("job", f"quantexp {tmp_path.name}"))
        server.restart(after=2)
        until("an answer", lambda: list(tmp_path.rglob("completions/*.jsonl")))
        server.kill()
        time.sleep(10)
        server.start()
        out, err = sweep.communicate(timeout=900)
        assert sweep.returncode == 0, err
        assert out.partition("Declared")[0] == (swept / "out.txt").read_text().partition("Declared")[0]
        runs = server.runs("job", f"quantexp {tmp_path.name}")
        assert [run.info.status for run in runs] == ["FINISHED"] * 4
        assert len({run.data.tags[NUMBER] for run in runs}) == 4
        assert not kept(tmp_path)


@pytest.mark.slow
def test_a_sweep_whose_server_is_gone_at_the_end_says_how_to_go_on(
    tmp_path: Path, forker: Forker, command: Command, cache: Path
) -> None:
    once = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    (tmp_path / "server").mkdir()
    with TrackingServer(tmp_path / "server") as server:
        where = on_server(server.url, tmp_path)
        arguments = ("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa", *quick(cache), *where)
        sweep = forker.start(tmp_path, "quantexp", *arguments, environment=once)
        until("the first job", lambda: server.runs("job", f"quantexp {tmp_path.name}"))
        server.kill()
        status, out, err = sweep.communicate(900)
        assert (status, out) == (1, ""), err
        assert "Traceback" not in err
        assert "2 runs are kept here" in err
        assert "python -m quantexp.sync, and then: python -m quantexp.aggregate sweep=" in err
        assert "attempts left" in err
        server.start()
        status, out, err = command(tmp_path, "quantexp.sync", *where)
        assert (status, out.count("sent ")) == (0, 4), err  # two jobs, the sweep, and the sum
        status, out, err = command(tmp_path, "quantexp.aggregate", *where)
        assert (status, "verdict Q3_K_M" in out) == (0, True), err


def test_credentials_come_from_the_environment_and_are_written_nowhere(
    server: TrackingServer, tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    with Proxy(server.url, "ada", "hunter2-secret") as proxy:
        where = on_server(proxy.url, tmp_path)
        short = (*small_model, "engine.threads=1", "task.limit=1", "task.shots=0", "task.max_tokens=4")
        arguments = ("-m", "quant=Q8_0", "task=triviaqa", *short, *where)
        status, out, err = command(tmp_path, "quantexp", *arguments)
        assert (status, out) == (2, "")
        assert f"The tracking server {proxy.url} refuses the credentials (401); set MLFLOW_TRACKING_USERNAME and" in err
        credentials = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "hunter2-secret"}
        status, out, err = command(tmp_path, "quantexp", *arguments, environment=credentials)
        assert status == 0, err
    [job] = server.runs("job", f"quantexp {tmp_path.name}")
    assert job.info.status == "FINISHED"
    server.client.download_artifacts(job.info.run_id, "", str(tmp_path))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (b"hunter2", b"YWRhOmh1bnRlcjI"):  # the latter is what Basic authentication sends
        assert secret not in written + out.encode() + err.encode()
    assert "hunter2" not in str(job.data) + server.log


ADDRESSES = {
    "": "tracking=server needs the server's address: set MLFLOW_TRACKING_URI in the environment, or tracking.",
    "sqlite:///x.db": "tracking.uri=sqlite:///x.db must begin with http:// or https://, as in http://127.0.0.1:5",
    "http://": "tracking.uri=http:// is not an address with a host",
    "http://ada:hunter2@host:5000": "tracking.uri holds more than an address, and it is recorded: write http://HOST",
    "http://127.0.0.1:9": "The tracking server http://127.0.0.1:9 does not answer (Connection refused); start it",
}
MODULES = ["quantexp", *(f"quantexp.{name}" for name in ("aggregate", "regrade", "plan", "sync"))]


@pytest.mark.parametrize(
    ("uri", "module"),
    [
        pytest.param(uri, module, marks=() if uri == "" or module == "quantexp" else pytest.mark.slow)
        for uri in ADDRESSES
        for module in MODULES
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(
    uri: str, module: str, tmp_path: Path, command: Command
) -> None:
    multirun = ("-m",) if module == "quantexp" else ()
    words = (*multirun, "tracking=server", f"tracking.uri='{uri}'")
    status, out, err = command(tmp_path, module, *words, attributes=AT_ONCE)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"quantexp: {ADDRESSES[uri]}"), err
    assert "Traceback" not in err
    assert "hunter2" not in err
    assert not list(tmp_path.rglob("outbox/*"))


@pytest.mark.slow
def test_what_a_server_refuses_is_kept_and_told(
    server: TrackingServer, store: Store, config: TrackingConfig, tmp_path: Path, command: Command
) -> None:
    with store.start("a job", "job", None, {}) as run:
        run.log(metrics={"pass@1": 0.5})  # MLflow allows no @
        run.log(metrics={"score": 0.5})
    assert len(kept(tmp_path)) == 1
    with store.start("another job", "job", None, {}):
        server.kill()
    server.start()
    status, out, err = command(tmp_path, "quantexp.sync", *on_server(server.url, tmp_path))
    assert status == 2
    assert out.splitlines() == ["sent another job", f"1 runs sent to {server.url}; 1 are left"]
    assert f"quantexp: a job: the tracking server {server.url} refuses something (" in err
    assert "pass@1" in err
    assert len(kept(tmp_path)) == 1


def test_other_servers_runs_are_left_for_them(server: TrackingServer, tmp_path: Path, command: Command) -> None:
    elsewhere = Store(TrackingConfig(str(tmp_path / "mlruns"), uri="http://127.0.0.1:9"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ATTEMPTS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with elsewhere.start("a job", "job", None, {}):
            pass
    status, out, _ = command(tmp_path, "quantexp.sync", *on_server(server.url, tmp_path))
    assert status == 0
    assert out.splitlines()[1] == "1 are meant for http://127.0.0.1:9: add tracking.uri=http://127.0.0.1:9"
    assert len(kept(tmp_path)) == 1


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False)
operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(
        Record,
        params=st.dictionaries(names, names, max_size=3),
        metrics=st.lists(st.tuples(names, numbers, st.integers(0, 9)), max_size=3).map(tuple),
        tags=st.dictionaries(names, names, max_size=3),
    ),
    st.builds(File, names, names, st.booleans()),
    st.builds(Scores, names, st.integers()),
    st.builds(Data, names, names, st.integers(), names),
    st.builds(Name, names),
    st.builds(Traces, st.none() | st.lists(numbers, max_size=3).map(tuple)),
    st.builds(End, st.sampled_from(["FINISHED", "FAILED", "KILLED"])),
)


@given(done=st.lists(operations, max_size=4), data=st.data())
def test_a_journal_cut_off_anywhere_holds_what_was_written_whole(
    tmp_path_factory: pytest.TempPathFactory, done: list[Operation], data: st.DataObject
) -> None:
    lines = [(json.dumps(encode(each), default=dict) + "\n").encode() for each in done]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    journal = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    journal.write_bytes(whole[:cut])
    read: list[Any] = [decode(line) for line in _whole_lines(journal)]
    count = next((n for n in range(len(lines) + 1) if sum(map(len, lines[: n + 1])) > cut), len(lines))
    assert read == done[:count]
    # What comes next is not joined to the rest of a line.
    with journal.open("ab") as file:
        file.write(lines[0] if lines else b"")
    assert [decode(line) for line in _whole_lines(journal)] == [*done[:count], *done[:1]]


def test_a_line_that_a_living_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    store = Store(TrackingConfig(str(tmp_path / "mlruns"), uri="http://127.0.0.1:9"))
    folder = tmp_path / "mlruns" / "outbox" / "1-a"
    folder.mkdir(parents=True)
    journal = folder / "journal.jsonl"
    journal.write_text('{"half of a li')
    with FileLock(folder / "lock"):
        assert store.fail_left(1, "its process died") == []
    assert journal.read_text() == '{"half of a li'


# What is left in the outbox, damaged or somebody else's


def damages(begins: dict[str, Any], outside: Path) -> dict[str, str]:
    """Journals that cannot be sent."""
    whole = json.dumps(begins)
    lines = {
        "no JSON": "{",
        "no mapping": "5",
        "deep": "[" * 5000,
        "no text": "\udcff",
        "unknown operation": '{"operation": "Remove"}',
        "no operation": "{}",
        "unknown key": '{"operation": "Name", "name": "x", "more": 1}',
        "key missing": '{"operation": "Name"}',
        "wrong type": '{"operation": "Name", "name": 5}',
        "wrong tags": '{"operation": "Record", "params": {}, "metrics": [], "tags": [1], "time": 1}',
        "wrong metric": '{"operation": "Record", "params": {}, "metrics": [["a", "b", 1]], "tags": {}, "time": 1}',
        "wrong run": '{"run_id": "../x"}',
        "a whole path": json.dumps(encode(File(str(outside)))),
        "a path out of it": json.dumps(encode(File("files/../../../../outside.txt"))),
        "a path of another": json.dumps(encode(File("journal.jsonl"))),
        "a link": json.dumps(encode(File("files/link"))),
        "a file that is gone": json.dumps(encode(File("files/0/config.yaml"))),
        "a folder out of the run": json.dumps(encode(File("files/0/there.txt", "../x"))),
    }
    end = json.dumps(encode(End("FINISHED", 1)))
    first = {"no beginning": "{}", "a wrong beginning": json.dumps(begins | {"tags": [1]}), "rubbish": "\x00"}
    return {name: f"{whole}\n{line}\n{end}\n" for name, line in lines.items()} | {
        name: f"{line}\n{end}\n" for name, line in first.items()
    }


def test_what_cannot_be_sent_is_set_aside_and_the_rest_is_sent(
    server: TrackingServer, store: Store, config: TrackingConfig, tmp_path: Path, command: Command
) -> None:
    outbox, outside = Path(config.folder) / "outbox", tmp_path / "outside.txt"
    outside.write_text("not for the server")
    begins = {"uri": server.url, "experiment": config.experiment, "name": "whole", "tags": {}, "started": 1}
    bad = damages(begins | {"name": "bad"}, outside)
    for number, (name, journal) in enumerate([*bad.items(), ("whole", f"{json.dumps(begins)}\n{{}}")]):
        files = outbox / f"{number}-{name}" / "files"
        (files / "0").mkdir(parents=True)
        (files / "0" / "there.txt").write_text("there")
        (files / "link").symlink_to(outside)
        (files.parent / "journal.jsonl").write_bytes(journal.encode("utf-8", "surrogateescape"))
    done = store.send(patient=False)
    assert (done.sent, done.waiting, len(done.damaged)) == (["whole"], [], len(bad))
    assert not list(outbox.iterdir())
    aside = sorted((Path(config.folder) / "outbox-damaged").glob("*/journal.jsonl"))
    assert {path.read_bytes() for path in aside} == {each.encode("utf-8", "surrogateescape") for each in bad.values()}
    assert [run.info.run_name for run in server.client.search_runs([store.experiment])] == ["whole"]
    again = outbox / "again"
    again.mkdir()
    (again / "journal.jsonl").write_text("{\n")
    where = (f"tracking.folder={config.folder}", f"tracking.experiment={config.experiment}")
    status, out, err = command(tmp_path, "quantexp.sync", "tracking=server", f"tracking.uri={server.url}", *where)
    assert (status, "Traceback" in err) == (2, False)
    assert f"0 runs sent to {server.url}; 0 are left" in out
    assert err.splitlines()[-1] == (
        f"quantexp: {again} cannot be sent, for its journal.jsonl is damaged (line 1 cannot be read); it is kept in "
        f"{Path(config.folder)}/outbox-damaged/again, and the same command runs its job again."
    )
    assert command(tmp_path, "quantexp.sync", "tracking=server", f"tracking.uri={server.url}", *where)[0] == 0
