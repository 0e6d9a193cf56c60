"""Reader of the runs in the store."""

import json
import tempfile
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import mlflow
import pandas as pd
import pyarrow as pa
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as RunEntity
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from quantexp.config.identity import NO_READER, Identity
from quantexp.tracking.artifacts import read_table
from quantexp.tracking.backend import Backend
from quantexp.tracking.downloads import Fetching
from quantexp.tracking.errors import ServerAwayError
from quantexp.tracking.problems import find_problem
from quantexp.tracking.scores import SCORES, Answers, ScoreTables, facts_of, read_scores
from quantexp.tracking.search import RUNS, are, pages
from quantexp.tracking.snapshots import JOBS, MANY, MERGED, read_merged, run_of
from quantexp.tracking.tags import CONFIG, IDENTITY, ITEMS, KIND, job_name
from quantexp.util.errors import UserError
from quantexp.util.progress import bar
from quantexp.util.terminal import one_line

T = TypeVar("T")
F = TypeVar("F")

FILES_AT_ONCE = 64
"""Files that are fetched at once: one after the other takes 50 ms each, 64 at once 3."""

MERGED_AT_ONCE = 4
"""Merged files that are fetched at once: each is some megabytes, and the server hands it over in a moment."""

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
        answers: what became of each answer; None for a job that was graded in another way than it was recorded.
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
        found = pages(self._backend, condition)
        while True:
            with self._backend.told():
                page = next(found, None)
            if page is None:
                return
            self._artifacts |= {run.info.run_id: str(run.info.artifact_uri) for run in page}
            yield from page

    def newest(self, condition: str) -> RunEntity | None:
        """Return the one of these runs that was started last, if there is any."""
        with self._backend.told():
            found = self._backend.client.search_runs(
                [self._backend.experiment], condition, order_by=["attributes.start_time DESC"], max_results=1
            )
        return found[0] if found else None

    def entity(self, run_id: str) -> RunEntity:
        """Return the run, whose absence is the user's mistake."""
        try:
            with self._backend.told():
                return self._backend.client.get_run(run_id)
        except mlflow.MlflowException as error:
            raise UserError(
                f"There is no run {run_id} in {self._backend.shown}; copy an id from the MLflow UI."
            ) from error

    def find(self, run_id: str) -> RunEntity | None:
        """Find a run, deleted ones included; None if there is none."""
        try:
            with self._backend.told():
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
        if (here := self._place(run_id, name)) is not None:
            yield here
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
        if (here := self._place(run_id, name)) is not None:
            return here.read_bytes() if here.is_file() else None
        files = self._files(run_id)
        with self._backend.told():
            if isinstance(files, HttpArtifactRepository):
                return self._fetching.content(f"{urlsplit(files.artifact_uri).path}/{quote(name)}")
            folder = name.rpartition("/")[0]
            if name not in {entry.path for entry in files.list_artifacts(folder or None)}:
                return None
            with tempfile.TemporaryDirectory() as place:
                files.download_artifacts(name, place)  # type: ignore[no-untyped-call]
                return (Path(place) / name).read_bytes()

    def names(self, run_id: str, folder: str) -> list[str]:
        """Return the files in a folder of a run."""
        return self._backend.names(run_id, folder)

    def contents(
        self, run_id: str, names: Sequence[str], at_once: int = FILES_AT_ONCE
    ) -> Iterator[tuple[str, bytes | None]]:
        """Yield the contents of these files of a run, in this order; None for one that is missing or cannot be read."""
        for name, content in self._ahead(names, lambda name: self.content(run_id, name), at_once):
            try:
                yield name, content.result()
            except OSError:
                yield name, None

    def _place(self, run_id: str, name: str) -> Path | None:
        """Find the place of a file of a run on this machine; None if only a server hands it out."""
        if self._backend.files is not None:
            return self._backend.files.path(run_id, name)
        files = self._files(run_id)
        return Path(files.artifact_dir) / name if isinstance(files, LocalArtifactRepository) else None

    def _files(self, run_id: str) -> ArtifactRepository:
        if run_id not in self._artifacts:
            self._artifacts[run_id] = str(self.entity(run_id).info.artifact_uri)
        # Asked by the run's id, MLflow would look the run up several times for each file.
        return _repository(self._artifacts[run_id], self._backend.uri)

    @cached_property
    def _fetching(self) -> Fetching:
        return Fetching(self._backend.uri)

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

    def recorded(self, sweep: str, children: str, tables: ScoreTables) -> tuple[list[JobRecord], list[RunEntity]]:
        """Return the jobs of a sweep that its own files tell of, oldest first, and the other runs that belong to it.

        All are other runs where the jobs are few, or the files are not those of the jobs that have finished.

        Args:
            sweep: id of its run.
            children: the condition that holds for its runs.
            tables: what the scores that are read share with others.
        """
        has_file = f"{children} and tags.`{SCORES}` IS NOT NULL"
        files = self.names(sweep, JOBS)
        with self._backend.told():
            is_all = len(files) >= MANY and are(
                self._backend, f"{has_file} and attributes.status = 'FINISHED'", len(files)
            )
        if not is_all:
            return [], list(self.search(children))
        others = [
            *self.search(f"{children} and tags.`{SCORES}` IS NULL"),
            *self.search(f"{has_file} and attributes.status != 'FINISHED'"),
        ]
        found, identities = [], Identities()
        with bar("reading the runs", len(files), "runs") as advance:
            for name, content in self._of_jobs(sweep, files):
                try:
                    table = read_scores(content or b"", name)
                    run = run_of(facts_of(table))
                    _check(run)
                    found.append(_record(run, tables.answers(table), identities))
                    self._artifacts[run.info.run_id] = str(run.info.artifact_uri)
                except (*_DAMAGE, UserError):
                    # The job's own file may be whole, and if not, that is told of it.
                    if (own := self.find(Path(name).stem)) is not None:
                        others.append(own)
                advance(1)
        return sorted(found, key=lambda record: (record.started, record.run_id)), others

    def jobs(
        self, runs: Sequence[RunEntity], tables: ScoreTables | None = None
    ) -> tuple[list[JobRecord], list[LeftOut]]:
        """Return the finished jobs among the runs, and each of the others with its reason.

        A finished one that was deleted, edited or damaged is one of the others.
        """
        finished, left_out = [], []
        tables, identities = tables or ScoreTables(), Identities()
        several = len({run.data.tags.get("model") for run in runs if run.data.tags.get(KIND) == "job"}) > 1
        with bar("reading the runs", len(runs), "runs") as advance:
            for run, table in self._ahead(runs, lambda run: self._scores(run) if _is_finished_job(run) else None):
                try:
                    _check(run, with_model=several)
                    finished.append(_record(run, _read_answers(run, table.result(), tables), identities))
                except ServerAwayError:
                    raise
                except UserError as error:
                    left_out.append(LeftOut(run.data.tags.get(CONFIG), str(error)))
                advance(1)
        return finished, left_out

    def find_lost(self, sweep: str, known: Container[str]) -> Iterator[LeftOut]:
        """Find jobs that have left their files in a sweep, and are not among its runs any more.

        Args:
            sweep: id of its run.
            known: ids of its runs.
        """
        names = [name for name in self.names(sweep, JOBS) if Path(name).stem not in known]
        for name, content in self.contents(sweep, names):
            run_id = Path(name).stem
            told = run = self.find(run_id)
            with suppress(*_DAMAGE):  # what the run was called is not worth more
                told = run_of(facts_of(read_scores(content or b"", name)))
            what = f"{'a job' if told is None else name_of(told)} (run {run_id})"
            if run is None:
                sentence = f"{what} is gone from the store, as after mlflow gc; the same command runs its job again."
            elif _is_deleted(run):
                sentence = _describe_deleted(what)
            else:
                sentence = f"{what} does not belong to this sweep any more: its tag {MLFLOW_PARENT_RUN_ID} was changed."
            yield LeftOut(None if told is None else told.data.tags.get(CONFIG), sentence)

    def job(self, run: RunEntity) -> JobRecord:
        """Return a finished job with its scores.

        Raises:
            UserError: it was deleted, edited or damaged.
        """
        _check(run)
        return _record(run, _read_answers(run, self._scores(run), ScoreTables()), Identities())

    def _of_jobs(self, sweep: str, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield these files of a sweep's jobs: first those that were merged, many with one request."""
        left = dict.fromkeys(names)
        merged_ones = [name for name in self.names(sweep, MERGED) if name.endswith(".arrow")]
        for _, merged in self.contents(sweep, merged_ones, MERGED_AT_ONCE):
            with suppress(*_DAMAGE):  # its files are there once more
                for name, content in read_merged(merged or b""):
                    if name in left:
                        del left[name]
                        yield name, content
        yield from self.contents(sweep, [*left])

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

    def _scores_in(self, run_id: str, name: str) -> pa.Table:
        content = self.content(run_id, name)
        if content is None:
            raise FileNotFoundError(name)
        return read_scores(content, name)

    def _scores(self, run: RunEntity) -> pa.Table:
        name = _table_of(run)
        try:
            return self._scores_in(run.info.run_id, name)
        except ServerAwayError:
            raise
        except _DAMAGE as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({one_line(str(error))})"
            raise UserError(_describe_uncounted(run, f"its table {name} {why}")) from error


class Identities:
    """Identities of jobs, read from their tags; runs that share one share the object."""

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, object]] = {}

    def of(self, tags: Mapping[str, str]) -> Identity:
        """Return the identity that the tags of a job say."""
        found = {}
        for key, value in tags.items():
            if key.startswith(IDENTITY):
                if value not in self._known:
                    self._known[value] = json.loads(value)
                found[key.removeprefix(IDENTITY)] = self._known[value]
        if "grader" in found:
            found.setdefault("reader", _WITHOUT_READER)
        return found


_WITHOUT_READER: Mapping[str, object] = {"id": NO_READER}


@lru_cache(maxsize=8)
def _repository(artifacts: str, uri: str) -> ArtifactRepository:
    return get_artifact_repository(artifacts, tracking_uri=uri)


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
        f"{name_of(run)} (run {run.info.run_id}) does not count, for {why}; put that back, or let the same command run "
        "its job again."
    )


def _check(run: RunEntity, *, with_model: bool = False) -> None:
    """Refuse a run that is no finished job, or not one that can be compared.

    Raises:
        UserError: it is not.
    """
    if _is_deleted(run):
        raise UserError(_describe_deleted(f"{name_of(run)} (run {run.info.run_id})"))
    if (kind := run.data.tags.get(KIND)) != "job":
        raise UserError(f"{run.info.run_name} (run {run.info.run_id}) is not a job ({KIND}: {kind}).")
    if run.info.status != "FINISHED":
        status = "" if run.info.status == "FAILED" else f" is {run.info.status}"
        name = name_of(run, with_model=with_model)
        raise UserError(f"{name}{status}: {run.data.tags.get('error', 'no reason was recorded')}")
    if (problem := find_problem(run)) is not None:
        raise UserError(_describe_uncounted(run, problem))


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


def _record(run: RunEntity, answers: Answers, identities: Identities) -> JobRecord:
    return JobRecord(
        run_id=run.info.run_id,
        name=name_of(run),
        started=run.info.start_time,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
        identity=identities.of(run.data.tags),
        scores=answers.item_scores,
        clusters=answers.asked.of_item,
        answers=answers,
    )


def name_of(run: RunEntity, *, with_model: bool = False) -> str:
    """Name a run as the terminal does: a job by its quant, task and seed, whatever its name in MLflow."""
    tags = run.data.tags
    if tags.get(KIND) == "job" and {"quant", "task", "seed"} <= tags.keys():
        return job_name(tags["quant"], tags["task"], tags["seed"], tags.get("model", "") if with_model else "")
    return str(run.info.run_name)
