"""One run in the store."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

from quantexp.tracking.backend import Backend
from quantexp.tracking.operations import Data, End, File, Name, Operation, Record, Scores, Traces
from quantexp.tracking.scores import SCORES, write_scores
from quantexp.tracking.tags import ITEMS
from quantexp.util.error_reports import explain_error
from quantexp.util.redaction import hide_secrets

log = logging.getLogger(__name__)

FIRST = ("item_id", "score", "extracted", "reference", "output")
"""Columns of an item table that MLflow's pages show first: its left edge is all that a screen has room for."""

HIDDEN = ("messages",)
"""Columns of an item table that MLflow's pages do not show: the prompt says the same."""

BELOW = "<!-- Written by quantexp at each comparison; what stands below this line is yours. -->"
"""Ends quantexp's part of a description; pages do not show it."""


class Recorder(Protocol):
    """Takes what is done to one run."""

    backend: Backend

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""

    def record(self, operation: Operation) -> None:
        """Do this to the run, at once or as soon as it can be done; files are the recorder's from then on."""

    def send(self, *, patient: bool) -> bool:
        """Do what is still to be done; whether all of it is done now."""


class AtOnce:
    """Does it at once, or raises what MLflow raises."""

    def __init__(self, backend: Backend, run_id: str) -> None:
        self.backend = backend
        self.run_id = run_id

    def record(self, operation: Operation) -> None:
        """Do this to the run."""
        operation.apply(self.backend, self.run_id)

    def send(self, *, patient: bool) -> bool:
        """Nothing is ever left."""
        return True


class Run:
    """A run that is open in the store; as a context manager it is never left open."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._client = recorder.backend.client
        self.name = name

    @property
    def id(self) -> str:
        """MLflow's id of it."""
        return self._recorder.run_id

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record parameters, metrics and tags in one call, or in none where there is nothing."""
        self._log(
            Record(
                params={key: str(value) for key, value in (params or {}).items()},
                metrics=tuple((key, float(value), 0) for key, value in (metrics or {}).items()),
                tags=dict(tags or {}),
            )
        )

    def _log(self, record: Record) -> None:
        if record.params or record.metrics or record.tags:
            self._recorder.record(record)

    def log_curves(self, curves: Mapping[str, Mapping[int, float]]) -> None:
        """Record metrics at steps; what is there with the same value is not recorded again."""
        new: list[tuple[str, float, int]] = []
        for name, curve in curves.items():
            newest = sorted(self._client.get_metric_history(self.id, name), key=lambda each: each.timestamp)
            there = {each.step: each.value for each in newest}
            new += [(name, value, step) for step, value in curve.items() if there.get(step) != value]
        self._log(Record(metrics=tuple(new)))

    def log_changed(self, metrics: Mapping[str, float]) -> None:
        """Record metrics, but for those that are there with the same value."""
        there = self._client.get_run(self.id).data.metrics
        self.log(metrics={name: value for name, value in metrics.items() if there.get(name) != value})

    def rename(self, name: str) -> None:
        """Change what MLflow's pages call it."""
        self._recorder.record(Name(name))

    def describe(self, text: str, tags: Mapping[str, str] | None = None) -> None:
        """Set the description that MLflow's pages show; what people have written there stays, below it.

        Args:
            text: Markdown; one that is too long ends early.
            tags: those of the run, if they are known.
        """
        before = (self._client.get_run(self.id).data.tags if tags is None else tags).get(MLFLOW_RUN_NOTE, "")
        _, marked, below = before.rpartition(BELOW)
        own = (below if marked else before).strip()
        room = MAX_TAG_VAL_LENGTH - len(BELOW) - len(own) - 2
        shown = text if len(text) <= room else text[: max(room, 0)].rpartition("\n")[0]
        described = f"{shown}\n{BELOW}\n{own}".rstrip()
        if described != before:
            self.log(tags={MLFLOW_RUN_NOTE: described})

    def log_yaml(self, content: str, name: str) -> None:
        """Record a text file; the name may hold folders."""
        folder, _, own = name.rpartition("/")
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / own
            file.write_text(content, encoding="utf-8")
            self._recorder.record(File(str(file), folder))

    def log_files(self, files: Sequence[Path]) -> None:
        """Record files under their own names."""
        for file in files:
            self._recorder.record(File(str(file)))

    def log_items(self, table: pd.DataFrame, name: str = ITEMS) -> None:
        """Record a per-item table, exactly and for MLflow's pages; one of the same name goes."""
        self.log_table(table, name)
        with tempfile.TemporaryDirectory() as folder:
            shown = Path(folder) / f"{name}.json"
            order = [
                *(column for column in FIRST if column in table),
                *table.columns.drop([*FIRST, *HIDDEN], errors="ignore"),
            ]
            table[order].to_json(shown, orient="split", index=False, date_format="iso")
            self._recorder.record(File(str(shown), shown=True))

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Record a table for programs, exactly: NAME.parquet."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.parquet"
            table.to_parquet(file, index=False, compression="zstd")
            self._recorder.record(File(str(file)))

    def log_scores(self, table: pd.DataFrame) -> None:
        """Record what comparisons read of a job, in a small file: the last thing before it ends."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / SCORES
            write_scores(table, file)
            self._recorder.record(Scores(str(file), len(table)))

    def log_dataset(self, name: str, fingerprint: str, rows: int, source: str) -> None:
        """Record which data were used, by the hash of their rows."""
        self._recorder.record(Data(name, fingerprint, rows, source))

    def trace(self, seconds: Sequence[float] | None = None) -> None:
        """Record the answers of a job's item table as traces, unless they are there.

        Args:
            seconds: how long each answer took; None where nobody knows any more.
        """
        self._recorder.record(Traces(None if seconds is None else tuple(seconds)))

    def send(self, *, patient: bool) -> bool:
        """Send to the server what could not be sent before, for seconds or some minutes; whether all of it is there."""
        return self._recorder.send(patient=patient)

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._recorder.record(End(status))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if error is None:
            self.close("FINISHED")
            return
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        reason = explain_error(error) or hide_secrets(f"{type(error).__name__}: {error}")
        self.log(tags={"error": "interrupted" if interrupted else reason[:5000]})
        self.close("KILLED" if interrupted else "FAILED")
        if not interrupted:
            log.error("%s failed: %s", self.name, reason, exc_info=explain_error(error) is None)
