"""Reader of the runs in the store."""

import tempfile
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import TypeVar

import mlflow
import pandas as pd
import pyarrow as pa
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as RunEntity
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from quantexp.config.identity import NO_READER, Identity
from quantexp.tracking.artifacts import read_table
from quantexp.tracking.backend import Backend
from quantexp.tracking.errors import ServerAwayError
from quantexp.tracking.problems import find_problem, read_mapping
from quantexp.tracking.scores import SCORES, Answers, ScoreTables, read_facts, read_scores
from quantexp.tracking.tags import CONFIG, IDENTITY, ITEMS, KIND, job_name
from quantexp.util.errors import UserError
from quantexp.util.progress import bar
from quantexp.util.terminal import one_line

T = TypeVar("T")
F = TypeVar("F")

RUNS = 500
"""A page. A run has some 140 parameters, metrics and tags; a server holds each as an object while it writes a page."""

FILES_AT_ONCE = 16
"""Files that are fetched at once, while the next page of runs is on its way."""

TABLES_AT_ONCE = 8
"""Whole tables, with their texts, that are fetched at once: each is some megabytes in memory."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as the store has it.

    Attributes:
        identity: what the scores depend on besides the quant and the seed; a mapping per aspect.
        scores: score of each item, the mean over its samples, in the order in which the items were asked; NaN for one
            that could not be asked.
        clusters: what items that ask the same share, by item; an item that is not named stands alone.
        answers: what became of each answer; None of a record that was made without them.
        table: name of its table of answers; another one holds them as they were graded again.
    """

    run_id: str
    name: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    identity: Identity
    scores: "pd.Series[float]"
    clusters: Mapping[str, str] = field(default_factory=dict)
    answers: Answers | None = None
    table: str = ITEMS


class DamagedRunError(UserError):
    """A table of a run cannot be read, so that the run cannot be compared.

    Attributes:
        run_id: of the run.
    """

    def __init__(self, run_id: str, sentence: str) -> None:
        self.run_id = run_id
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that does not count.

    Attributes:
        config: the fingerprint of what its job asks for, if it says so.
        sentence: why it does not count.
    """

    config: str | None
    sentence: str


class Reader:
    """Runs of one experiment, their tables and files."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._artifacts: dict[str, str] = {}  # where the files of each run that was looked up are

    def search(self, condition: str) -> Iterator[RunEntity]:
        """Yield the runs that a condition in MLflow's language holds for; oldest first."""
        with ThreadPoolExecutor(1) as thread:
            page = self._page(condition, None)
            while True:
                # A server takes seconds to make a page, in which what is done with the runs before would rest.
                following = thread.submit(self._page, condition, page.token) if page.token else None
                self._artifacts |= {run.info.run_id: str(run.info.artifact_uri) for run in page}
                yield from page
                if following is None:
                    return
                page = following.result()

    def _page(self, condition: str, token: str | None, order: str = "ASC", most: int = RUNS) -> PagedList[RunEntity]:
        with self._backend.translate_errors():
            return self._backend.client.search_runs(
                [self._backend.experiment],
                condition,
                order_by=[f"attributes.start_time {order}"],
                max_results=most,
                page_token=token,
            )

    def newest(self, condition: str) -> RunEntity | None:
        """Return the one of these runs that was started last, if there is any."""
        found = self._page(condition, None, "DESC", 1)
        return found[0] if found else None

    def entity(self, run_id: str) -> RunEntity:
        """Return the run, whose absence is the user's mistake."""
        try:
            with self._backend.translate_errors():
                return self._backend.client.get_run(run_id)
        except mlflow.MlflowException as error:
            raise UserError(
                f"There is no run {run_id} in {self._backend.shown}; copy an id from the MLflow UI."
            ) from error

    def find(self, run_id: str) -> RunEntity | None:
        """Find a run, deleted ones included; None if there is none."""
        try:
            with self._backend.translate_errors():
                return self._backend.client.get_run(run_id)
        except mlflow.MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            return None

    def entities(self, run_ids: Sequence[str]) -> list[RunEntity]:
        """Return the runs, in this order; the absence of one is the user's mistake."""
        found = self.find_all(run_ids)
        return [found.get(run_id) or self.entity(run_id) for run_id in run_ids]

    def find_all(self, run_ids: Sequence[str]) -> dict[str, RunEntity]:
        """Find those of the runs that are there, deleted ones included, by their ids."""
        found: dict[str, RunEntity] = {}
        for first in range(0, len(run_ids), RUNS) if len(run_ids) > 1 else ():
            listed = ", ".join(f"'{run_id}'" for run_id in run_ids[first : first + RUNS] if run_id.isalnum())
            if listed:
                found |= {run.info.run_id: run for run in self.search(f"attributes.run_id IN ({listed})")}
        # A run that was deleted, or is of another experiment, is not found by a search.
        alone = {run_id: self.find(run_id) for run_id in run_ids if run_id not in found}
        return found | {run_id: run for run_id, run in alone.items() if run is not None}

    @contextmanager
    def file(self, run_id: str, name: str) -> Iterator[Path]:
        """Yield a run's file, fetched for as long as the context lasts; a path where nothing is if it has none."""
        if self._backend.files is not None:
            yield self._backend.files.path(run_id, name)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            content = self.content(run_id, name)
            if content is not None:
                path.write_bytes(content)
            yield path

    def content(self, run_id: str, name: str) -> bytes | None:
        """Return the content of a file of a run; None if the run has none.

        Raises:
            OSError: it cannot be read, or the server refused.
        """
        if self._backend.files is not None:
            here = self._backend.files.path(run_id, name)
            return here.read_bytes() if here.is_file() else None
        if run_id not in self._artifacts:
            self._artifacts[run_id] = str(self.entity(run_id).info.artifact_uri)
        # Asked by the run's id, MLflow would look the run up once more for each file.
        address = f"{self._artifacts[run_id]}/{name}"
        with self._backend.translate_errors(), tempfile.TemporaryDirectory() as folder:
            try:
                path = mlflow.artifacts.download_artifacts(address, dst_path=folder, tracking_uri=self._backend.uri)
            except mlflow.MlflowException:
                if name in self._backend.names(run_id, name.rpartition("/")[0]):
                    raise
                return None
            return Path(path).read_bytes()

    def contents(self, run_id: str, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield the contents of these files of a run, in this order; None for one that is missing or cannot be read."""
        for name, content in self._ahead(names, lambda name: self.content(run_id, name)):
            try:
                yield name, content.result()
            except OSError:
                yield name, None

    def tables(self, run_ids: Sequence[str], name: str, needed: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield a whole table (`Run.log_table`) of each run, in this order; some are fetched ahead of their turn.

        Args:
            run_ids: of the runs.
            name: of the table.
            needed: columns that it must have.

        Raises:
            DamagedRunError: one is gone or damaged, or somebody else's.
        """

        def read(run_id: str) -> pd.DataFrame:
            try:
                with self.file(run_id, f"{name}.parquet") as path:
                    table = read_table(path)
            except ServerAwayError:
                raise
            except (UserError, PermissionError) as error:
                raise DamagedRunError(run_id, str(error)) from error
            if missing := [column for column in needed if column not in table]:
                raise DamagedRunError(run_id, f"{name}.parquet of run {run_id} has no column {missing[0]}.")
            return table

        for _, table in self._ahead(run_ids, read, TABLES_AT_ONCE):
            yield table.result()

    def jobs(
        self, runs: Iterable[RunEntity], expected: int | None = None
    ) -> tuple[list[JobRecord], list[LeftOut], set[str]]:
        """Read the finished jobs among the runs.

        Args:
            runs: any; each is held no longer than it takes.
            expected: how many they are, more or less.

        Returns:
            The finished jobs; each of the others with its reason, also those that were deleted, edited or damaged; and
            the ids of all.
        """
        finished, left_out, known = [], [], set()
        tables = ScoreTables()
        models: set[str | None] = set()
        with bar("reading the runs", expected, "runs") as advance:
            for run, table in self._ahead(runs, lambda run: self._scores(run) if _is_finished_job(run) else None):
                known.add(run.info.run_id)
                if run.data.tags.get(KIND) == "job":
                    models.add(run.data.tags.get("model"))
                try:
                    _check(run)
                    finished.append(_record(run, _read_answers(run, table.result(), tables)))
                except ServerAwayError:
                    raise
                except UserError as error:
                    left_out.append((run, str(error)))
                advance(1)
        several = len(models) > 1
        reasons = [(run, _find_reason(run, with_model=several) or reason) for run, reason in left_out]
        return finished, [LeftOut(run.data.tags.get(CONFIG), reason) for run, reason in reasons], known

    def find_lost(self, sweep: str, files: Sequence[str], known: Container[str]) -> Iterator[LeftOut]:
        """Find jobs that have left their files in a sweep, and are not among its runs any more.

        Args:
            sweep: id of its run.
            files: what jobs have left in it.
            known: ids of its runs.
        """
        names = [name for name in files if Path(name).stem not in known]
        for name, content in self.contents(sweep, names):
            run_id = Path(name).stem
            run = self.find(run_id)
            tags, called = ({}, "a job") if run is None else (run.data.tags, name_run(run))
            with suppress(*_DAMAGE):  # what the run was called is not worth more
                facts = read_facts(read_scores(content or b"", name))
                tags, called = facts["tags"], _name(facts["tags"], str(facts.get("run_name")))
            what = f"{called} (run {run_id})"
            if run is None:
                sentence = f"{what} is gone from the store, as after mlflow gc; the same command runs its job again."
            elif _is_deleted(run):
                sentence = _describe_deleted(what)
            else:
                sentence = f"{what} does not belong to this sweep any more: its tag {MLFLOW_PARENT_RUN_ID} was changed."
            yield LeftOut(tags.get(CONFIG), sentence)

    def job(self, run: RunEntity) -> JobRecord:
        """Return a finished job with its scores.

        Raises:
            UserError: it was deleted, edited or damaged.
        """
        _check(run)
        return _record(run, _read_answers(run, self._scores(run), ScoreTables()))

    def _ahead(
        self, what: Iterable[T], fetch: Callable[[T], F], at_once: int = FILES_AT_ONCE
    ) -> Iterator[tuple[T, "Future[F]"]]:
        """Each with what is fetched for it, in this order; many are fetched at once, ahead of their turn."""
        with ThreadPoolExecutor(at_once) as threads:
            waiting: deque[tuple[T, Future[F]]] = deque()
            for each in what:
                waiting.append((each, threads.submit(fetch, each)))
                if len(waiting) > 2 * at_once:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()

    def _scores(self, run: RunEntity) -> pa.Table:
        name = _table_of(run)
        try:
            if (content := self.content(run.info.run_id, name)) is None:
                raise FileNotFoundError(name)
            return read_scores(content, name)
        except ServerAwayError:
            raise
        except _DAMAGE as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({one_line(str(error))})"
            raise UserError(_describe_uncounted(run, f"its table {name} {why}")) from error


_WITHOUT_READER: Mapping[str, object] = {"id": NO_READER}


_DAMAGE = (OSError, ValueError, LookupError, TypeError, pa.ArrowException)
"""What is raised by reading a table that is damaged, or another program's."""


def _is_finished_job(run: RunEntity) -> bool:
    return run.info.status == "FINISHED" and run.data.tags.get(KIND) == "job"


def _is_deleted(run: RunEntity) -> bool:
    return run.info.lifecycle_stage == LifecycleStage.DELETED


def _describe_deleted(what: str) -> str:
    return f"{what} was deleted in MLflow, so it does not count; restore it there, or run its job again."


def _describe_uncounted(run: RunEntity, why: str) -> str:
    return (
        f"{name_run(run)} (run {run.info.run_id}) does not count, for {why}; put that back, or let the same command "
        "run its job again."
    )


def _check(run: RunEntity) -> None:
    """Refuse a run that is no finished job, or not one that can be compared.

    Raises:
        UserError: it is not.
    """
    if (reason := _find_reason(run)) is not None:
        raise UserError(reason)


def _find_reason(run: RunEntity, *, with_model: bool = False) -> str | None:
    """Find a reason why a run is no finished job, or not one that can be compared."""
    if _is_deleted(run):
        return _describe_deleted(f"{name_run(run)} (run {run.info.run_id})")
    if (kind := run.data.tags.get(KIND)) != "job":
        return f"{run.info.run_name} (run {run.info.run_id}) is not a job ({KIND}: {kind})."
    if run.info.status != "FINISHED":
        status = "" if run.info.status == "FAILED" else f" is {run.info.status}"
        name = name_run(run, with_model=with_model)
        return f"{name}{status}: {run.data.tags.get('error', 'no reason was recorded')}"
    return None if (problem := find_problem(run)) is None else _describe_uncounted(run, problem)


def _table_of(run: RunEntity) -> str:
    """Name the file with a job's scores: runs of earlier versions have them in the whole table only."""
    return SCORES if SCORES in run.data.tags else f"{ITEMS}.parquet"


def _read_answers(run: RunEntity, table: pa.Table, tables: ScoreTables) -> Answers:
    """Read the answers in a run's table.

    Raises:
        UserError: the table is another program's.
    """
    try:
        return tables.answers(table)
    except _DAMAGE as error:
        raise UserError(
            _describe_uncounted(run, f"its table {_table_of(run)} cannot be read ({one_line(str(error))})")
        ) from error


def _record(run: RunEntity, answers: Answers) -> JobRecord:
    aspects = {key.removeprefix(IDENTITY): value for key, value in run.data.tags.items() if key.startswith(IDENTITY)}
    identity = {aspect: read_mapping(value) or {} for aspect, value in aspects.items()}
    identity.setdefault("reader", _WITHOUT_READER)
    return JobRecord(
        run_id=run.info.run_id,
        name=name_run(run),
        started=run.info.start_time,
        # Equal names and values of many runs are held once.
        tags={intern(key): intern(value) for key, value in run.data.tags.items()},
        params={intern(key): intern(value) for key, value in run.data.params.items()},
        metrics={intern(key): value for key, value in run.data.metrics.items()},
        identity=identity,
        scores=answers.item_scores,
        clusters=answers.asked.of_item,
        answers=answers,
    )


def name_run(run: RunEntity, *, with_model: bool = False) -> str:
    """Name a run as the terminal does: a job by its quant, task and seed, whatever its name in MLflow."""
    return _name(run.data.tags, str(run.info.run_name), with_model=with_model)


def _name(tags: Mapping[str, str], run_name: str, *, with_model: bool = False) -> str:
    if tags.get(KIND) == "job" and {"quant", "task", "seed"} <= tags.keys():
        return job_name(tags["quant"], tags["task"], tags["seed"], tags.get("model", "") if with_model else "")
    return run_name
