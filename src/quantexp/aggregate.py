"""`python -m quantexp.aggregate`: compare the runs of any earlier sweep, or of a list of runs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from quantexp.command_line import command_line
from quantexp.config import AggregateConfig, StatsConfig, TrackingConfig
from quantexp.errors import UserError, past_hydra
from quantexp.validation import validated

if TYPE_CHECKING:
    import pandas as pd

    from quantexp.report import Summary
    from quantexp.tracking import Access, JobRecord, Store

log = logging.getLogger(__name__)


class Aggregated(NamedTuple):
    """What became of a comparison.

    Attributes:
        complete: Whether every job had finished, and every pair that there is could be compared.
        compared: Whether anything was compared.
    """

    complete: bool
    compared: bool


def aggregate(stats: StatsConfig, store: "Store", sweep: str, runs: list[str], folder: Path) -> Aggregated:
    """Compare, write the report into `folder`, print it, and record it.

    Args:
        stats: baseline and bootstrap.
        store: where the runs are.
        sweep: the sweep to compare and to record the report in, unless `runs` is given.
        runs: ids of single runs to compare; the report is recorded in a new run.
        folder: where the files go.

    Raises:
        UserError: there is nothing to compare.
    """
    from quantexp.browsing import describe_jobs, show_in_mlflow
    from quantexp.report import write_report
    from quantexp.tracking import FLIPS

    records, failures = finished_jobs(store, sweep, runs, "compare")
    compared = compare(records, failures, stats, store, None if runs else sweep)
    summary = compared.summary
    files = write_report(summary, folder, compared.changed)
    page = None
    if not store.is_writable:
        log.warning("%s cannot be written, so the comparison is not recorded in it", store.shown)
    elif runs:
        with store.start("aggregate", "aggregate", None, {"runs": ",".join(runs)}) as run:
            run.log_files(files.all)
            run.log_items(compared.changed, FLIPS)
            page = show_in_mlflow(summary, run, store)
    else:
        run = store.run(sweep)
        run.log_files(files.all)
        run.log_items(compared.changed, FLIPS)
        page = show_in_mlflow(summary, run, store)
        describe_jobs(summary, {record.run_id: record for record in compared.records}, store)
    show(summary, files.html, store, page)
    return Aggregated(not (summary.refusals or summary.failures), bool(summary.comparisons))


@dataclass(frozen=True)
class JobComparison:
    """A comparison, with what it was made from.

    Attributes:
        records: the jobs that counted.
        changed: the answers that changed (`flipped`).
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
    from quantexp.diverged import diverged
    from quantexp.flipped import flipped
    from quantexp.pairing import summarise
    from quantexp.reading_rules import add_rule_shifts
    from quantexp.tracking import DamagedRunError, ServerAwayError

    left, failures = list(records), list(failures)
    try:
        registration = None if sweep is None else store.registration(sweep)
    except ServerAwayError:
        raise
    except UserError as error:
        registration = None
        failures.append(str(error))
    while left:
        try:
            summary = summarise(left, failures, stats, title_of(left), registration)
            summary, changed = flipped(summary, left, store, stats)
            summary = add_rule_shifts(summary, left, store, stats)
            summary = diverged(summary, left, store, confidence=stats.confidence, seed=stats.seed)
        except DamagedRunError as error:
            name = next(record.name for record in left if record.run_id == error.run_id)
            left = [record for record in left if record.run_id != error.run_id]
            failures.append(f"{name} does not count: {error}")
        else:
            return JobComparison(summary, left, changed)
    raise UserError(f"No job is left to compare: {' '.join(failures)}")


def open_store(config: TrackingConfig, access: "Access") -> "Store":
    """The store of earlier runs; nothing is made where none is.

    Raises:
        UserError: there is none, or it cannot be opened, or a server is away.
    """
    from quantexp.tracking import Store

    store = Store.existing(config, access)
    if store is None:
        where = config.uri or Path(config.folder).absolute() / "mlflow.db"
        raise UserError(
            f"There is no sweep in {where} (tracking.experiment={config.experiment}); run one first, for example: "
            "python -m quantexp -m quant=Q8_0,Q4_K_M task=gsm8k"
        )
    store.check()
    return store


def chosen_sweep(config: AggregateConfig, store: "Store") -> str:
    """The id of the sweep that a command names; "latest" where it names single runs instead."""
    return store.latest_sweep() if config.sweep == "latest" and not config.runs else config.sweep


def finished_jobs(store: "Store", sweep: str, runs: list[str], purpose: str) -> tuple[list["JobRecord"], list[str]]:
    """The finished jobs of a sweep or of a list of runs, and a sentence for each of the others.

    Raises:
        UserError: there is no finished one.
    """
    records, failures = store.jobs(runs) if runs else store.jobs_of(sweep)
    if not records:
        reasons = " ".join(failures) or "it has no jobs."
        raise UserError(f"No finished job to {purpose} in {'these runs' if runs else f'sweep {sweep}'}: {reasons}")
    return records, failures


def title_of(records: Sequence["JobRecord"]) -> str:
    """What a report on these jobs is called."""
    models = ", ".join(dict.fromkeys(record.tags["model"] for record in records))
    data = ", ".join(dict.fromkeys(_data_of(record) for record in records))
    return f"{models}, {data}"


def _data_of(record: "JobRecord") -> str:
    from quantexp.tasks.items import data_title
    from quantexp.tracking import DATA_FILE, DATA_ROWS

    return data_title(record.tags["data"], record.tags.get(DATA_FILE), int(record.tags.get(DATA_ROWS, 0)))


def show(summary: "Summary", report: Path, store: "Store", page: str | None = None) -> None:
    """Print the verdict, then the table with its caveats, and last where the report is and how to browse.

    On a terminal the verdict is wrapped, and the path opens the report; a path or a command, which is copied, is never
    wrapped, and elsewhere nothing is.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from quantexp.report.outcome import sentences
    from quantexp.report.table import comparison_table

    console = Console()
    said = " ".join(sentences(summary))
    if console.is_terminal:
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row("verdict", Text(said, style="bold"))
        console.print(line)
    else:
        console.print(Text(f"verdict {said}"), soft_wrap=True)
    console.print()
    console.print(comparison_table(summary, console.width))
    console.print(Text.assemble("report  ", (str(report), f"link {report.absolute().as_uri()}")), soft_wrap=True)
    console.print(Text(f"browse  {store.browse}"), soft_wrap=True)
    if page is not None:
        console.print(Text(f"        {page}"), soft_wrap=True)


@hydra.main(version_base="1.3", config_path="pkg://quantexp.conf", config_name="aggregate")
def _app(composed: DictConfig) -> None:
    with past_hydra():
        _run(composed)


def _run(composed: DictConfig) -> None:
    config = validated(composed, AggregateConfig)
    from quantexp.tracking import Access

    store = open_store(config.tracking, Access.record)
    folder = Path(HydraConfig.get().runtime.output_dir) / "report"
    if not all(aggregate(config.stats, store, chosen_sweep(config, store), config.runs, folder)):
        raise SystemExit(1)


def main() -> None:
    """Entry point."""
    with command_line("quantexp.aggregate"):
        _app()


if __name__ == "__main__":
    main()
