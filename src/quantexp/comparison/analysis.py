"""Runs in, a comparison out: the entry of every command that compares."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config import StatsConfig, TrackingConfig
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from quantexp.comparison.summary import Summary
    from quantexp.tracking.backend import Access
    from quantexp.tracking.reader import JobRecord
    from quantexp.tracking.registration import Registration
    from quantexp.tracking.store import Store


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobComparison:
    """A comparison, with what it was made from.

    Attributes:
        records: the jobs that counted.
        changed: the answers that changed (`add_changed_answers`).
    """

    summary: "Summary"
    records: Sequence["JobRecord"]
    changed: "pd.DataFrame"


def compare(
    records: Sequence["JobRecord"], failures: Sequence[str], stats: StatsConfig, store: "Store", sweep: str | None
) -> JobComparison:
    """Compare jobs; one whose tables cannot be read is left out, and the summary says so.

    Args:
        records: finished jobs.
        failures: a sentence for each that is left out already.
        stats: how to compare.
        store: where their tables are.
        sweep: whose declaration the summary holds the results against, if any.

    Raises:
        UserError: nothing is left to compare, or the jobs were stopped by another method than that of `stats`.
    """
    from quantexp.comparison.changed_answers import add_changed_answers
    from quantexp.comparison.divergence import add_divergence
    from quantexp.comparison.pairing import summarise
    from quantexp.comparison.reading_rules import add_rule_shifts
    from quantexp.tracking.errors import ServerAwayError
    from quantexp.tracking.reader import DamagedRunError

    left, failures = list(records), list(failures)
    try:
        registration = None if sweep is None else store.registration(sweep)
    except ServerAwayError:
        raise
    except UserError as error:
        registration = None
        failures.append(str(error))
    stats = _choose_baseline(left, stats, registration)
    while left:
        try:
            summary = summarise(left, failures, stats, make_title(left), registration)
            summary, changed = add_changed_answers(summary, left, store, stats)
            summary = add_rule_shifts(summary, left, store, stats)
            summary = add_divergence(summary, left, store, confidence=stats.confidence, seed=stats.seed)
        except DamagedRunError as error:
            name = next(record.name for record in left if record.run_id == error.run_id)
            left = [record for record in left if record.run_id != error.run_id]
            failures.append(f"{name} does not count: {error}")
        else:
            return JobComparison(summary, left, changed)
    raise UserError(f"No job is left to compare: {' '.join(failures)}")


def _choose_baseline(
    records: Sequence["JobRecord"], stats: StatsConfig, registration: "Registration | None"
) -> StatsConfig:
    """Take the baseline that the sweep has declared, if none is named and the usual one was not run."""
    usual = stats.baseline == StatsConfig.baseline
    if not usual or registration is None or any(each.tags["quant"] == stats.baseline for each in records):
        return stats
    declared = registration.baseline
    if declared is None or declared == stats.baseline:
        return stats
    log.info("compared with %s, the baseline that the sweep has declared", declared)
    return replace(stats, baseline=declared)


def open_store(config: TrackingConfig, access: "Access") -> "Store":
    """Return the store of earlier runs; nothing is made where none is.

    Raises:
        UserError: there is none, or it cannot be opened, or a server is away.
    """
    from quantexp.tracking.store import Store

    store = Store.open_existing(config, access)
    if store is None:
        where = config.uri or Path(config.folder).absolute() / "mlflow.db"
        raise UserError(
            f"There is no sweep in {where} (tracking.experiment={config.experiment}); run one first, for example: "
            "python -m quantexp -m quant=Q8_0,Q4_K_M task=gsm8k"
        )
    store.check()
    return store


def chosen_sweep(sweep: str, runs: list[str], store: "Store") -> str:
    """Return the id of the sweep that a command names; "latest" where it names single runs instead."""
    return store.latest_sweep() if sweep == "latest" and not runs else sweep


def compare_sweep(
    tracking: TrackingConfig, sweep: str, runs: list[str], stats: StatsConfig, purpose: str
) -> tuple["Store", str, JobComparison]:
    """Compare the jobs of a sweep, or single runs, in a store that is only read; return it and the sweep's id, too.

    Raises:
        UserError: there is no store, or nothing to compare in it.
    """
    from quantexp.tracking.backend import Access

    store = open_store(tracking, Access.read)
    chosen = chosen_sweep(sweep, runs, store)
    records, failures = finished_jobs(store, chosen, runs, purpose)
    return store, chosen, compare(records, failures, stats, store, None if runs else chosen)


def finished_jobs(store: "Store", sweep: str, runs: list[str], purpose: str) -> tuple[list["JobRecord"], list[str]]:
    """Return the finished jobs of a sweep or of a list of runs, and a sentence for each of the others.

    Raises:
        UserError: there is no finished one.
    """
    records, failures = store.jobs(runs) if runs else store.jobs_of(sweep)
    if not records:
        reasons = " ".join(failures) or "it has no jobs."
        raise UserError(f"No finished job to {purpose} in {'these runs' if runs else f'sweep {sweep}'}: {reasons}")
    return records, failures


def make_title(records: Sequence["JobRecord"]) -> str:
    """Return the title of a report on these jobs."""
    models = ", ".join(dict.fromkeys(record.tags["model"] for record in records))
    data = ", ".join(dict.fromkeys(_data_of(record) for record in records))
    return f"{models}, {data}"


def _data_of(record: "JobRecord") -> str:
    from quantexp.tasks.items import data_title
    from quantexp.tracking.tags import DATA_FILE, DATA_ROWS

    return data_title(record.tags["data"], record.tags.get(DATA_FILE), int(record.tags.get(DATA_ROWS, 0)))
