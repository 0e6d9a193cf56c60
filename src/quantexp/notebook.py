"""`quantexp.load`: a sweep's comparison as data frames, for notebooks and scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from omegaconf.errors import OmegaConfBaseException

from quantexp.comparison.analysis import compare, finished_jobs
from quantexp.config import StatsConfig, TrackingConfig
from quantexp.report.conclusions import sentences
from quantexp.report.divergence import divergences_table
from quantexp.report.frames import ComparisonFrames, read_frame
from quantexp.report.pools import models_table
from quantexp.tracking.artifacts import read_section, read_table
from quantexp.tracking.errors import ServerAwayError
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import ITEMS
from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError


@dataclass(frozen=True, repr=False)
class Result(ComparisonFrames):
    """Outcome of a sweep.

    Scores and differences are fractions; positive differences mean that the baseline is better. In a notebook it shows
    the verdict and the table.

    Attributes:
        summary: Everything a report shows, as dataclasses.
        flips: The changed answers, one a row, with both outputs.
        sweep: The id of the sweep's run.
    """

    sweep: str
    _records: Sequence[JobRecord]
    _store: Store

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row a condition that several models have: what it costs on average; empty of one model."""
        return read_frame(models_table(self.summary))

    @cached_property
    def divergence(self) -> pd.DataFrame:
        """One row a comparison whose divergence was measured (divergence=true), with intervals; in nats."""
        return read_frame(divergences_table(self.summary))

    @cached_property
    def items(self) -> pd.DataFrame:
        """One row an answer of every job: prompt, output, score, tokens, after model, task, quant, seed and run id."""
        tables = []
        for record in self._records:
            with self._store.file(record.run_id, f"{ITEMS}.parquet") as path:
                table = read_table(path)
            for place, key in enumerate(("model", "task", "quant")):
                table.insert(place, key, record.tags[key])
            table.insert(3, "seed", int(record.tags["seed"]))
            table.insert(4, "run_id", record.run_id)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def __repr__(self) -> str:
        return f"<sweep {self.sweep[:8]}: {' '.join(sentences(self.summary))}>"


def load(
    sweep: str = "latest",
    folder: str | Path = "mlruns",
    *,
    experiment: str = "quantexp",
    uri: str | None = None,
    stats: StatsConfig | None = None,
) -> Result:
    """Compare a sweep as `python -m quantexp.aggregate` does, and hand over the tables; nothing is written.

    Args:
        sweep: The id of the sweep's run, or "latest".
        folder: The tracking folder, which holds mlflow.db.
        experiment: Name of the MLflow experiment.
        uri: Address of the tracking server, if the sweep was tracked on one.
        stats: How to compare; None: as the sweep's newest job was configured.

    Raises:
        UserError: The folder or the sweep is not there, or has no finished job, or was decided while it ran
            (stats=sequential) and is to be judged in another way.
    """
    store = Store.open_existing(TrackingConfig(str(folder), experiment, uri=uri))
    if store is None:
        raise UserError(
            f"There is no experiment {experiment} in {uri or Path(folder).absolute() / 'mlflow.db'}; give the folder "
            "or the server that a sweep was tracked in, as in quantexp.load(folder=...) or quantexp.load(uri=...)."
        )
    chosen = store.latest_sweep() if sweep == "latest" else sweep
    records, failures = finished_jobs(store, chosen, [], "load")
    analysis = _stats_of(records, failures, store) if stats is None else stats
    compared = compare(records, failures, analysis, store, chosen)
    return Result(compared.summary, compared.changed, chosen, compared.records, store)


def _stats_of(records: Sequence[JobRecord], failures: list[str], store: Store) -> StatsConfig:
    """Return the statistics of the newest job's configuration; one that is lost is named in `failures`.

    Raises:
        UserError: no job has its configuration any more.
    """
    for record in sorted(records, key=lambda record: record.started, reverse=True):
        try:
            with store.file(record.run_id, "config.yaml") as path:
                if not path.is_file():
                    raise UserError(f"Run {record.run_id} has no config.yaml.")
                return read_section(path, "stats", StatsConfig)
        except ServerAwayError:
            raise
        except (UserError, OmegaConfBaseException) as error:
            failures.append(f"{record.name} does not say how to compare: {explain_error(error)}")
    raise UserError(f"{failures[-1]} Say how to compare, as in quantexp.load(stats=...).")
