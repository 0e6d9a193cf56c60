"""`python -m quantexp.aggregate`: compare the runs of any earlier sweep, or of a list of runs."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydra.core.hydra_config import HydraConfig

from quantexp.comparison.analysis import chosen_sweep, compare, finished_jobs, open_store
from quantexp.config import AggregateConfig, StatsConfig
from quantexp.config.command_line import hydra_command

if TYPE_CHECKING:
    from quantexp.tracking.store import Store

log = logging.getLogger(__name__)


class Aggregated(NamedTuple):
    """Outcome of a comparison.

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
    from quantexp.report import PAGE, write_report
    from quantexp.report.mlflow_pages import describe_jobs, show_in_mlflow
    from quantexp.report.terminal import show
    from quantexp.tracking.tags import FLIPS

    records, failures = finished_jobs(store, sweep, runs, "compare")
    compared = compare(records, failures, stats, store, None if runs else sweep)
    summary = compared.summary
    files = write_report(summary, folder, compared.changed)
    page = None
    if not store.is_writable:
        log.warning("%s cannot be written, so the comparison is not recorded in it", store.shown)
    else:
        own = {"runs": ",".join(runs)}
        with store.start("aggregate", "aggregate", None, own) if runs else nullcontext(store.run(sweep)) as run:
            run.log_files(files)
            run.log_items(compared.changed, FLIPS)
            page = show_in_mlflow(summary, run, store)
        if not runs:
            describe_jobs(summary, {record.run_id: record for record in compared.records}, store)
    show(summary, folder / PAGE, store.browse, page)
    return Aggregated(not (summary.refusals or summary.failures), bool(summary.comparisons))


@hydra_command("quantexp.aggregate", AggregateConfig)
def main(config: AggregateConfig) -> None:
    """Entry point."""
    from quantexp.tracking.backend import Access

    store = open_store(config.tracking, Access.record)
    folder = Path(HydraConfig.get().runtime.output_dir) / "report"
    if not all(aggregate(config.stats, store, chosen_sweep(config.sweep, config.runs, store), config.runs, folder)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
