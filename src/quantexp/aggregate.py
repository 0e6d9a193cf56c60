"""`python -m quantexp.aggregate`: compare the runs of any earlier sweep, or of a list of runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from quantexp.config import AggregateConfig, StatsConfig, register_schemas, validated
from quantexp.errors import UserError, past_hydra, reported

if TYPE_CHECKING:
    from quantexp.tracking import Store


def aggregate(stats: StatsConfig, store: "Store", sweep: str, runs: list[str], folder: Path) -> bool:
    """Compare, write the report into `folder`, print it, and record it.

    Args:
        stats: baseline and bootstrap.
        store: where the runs are.
        sweep: the sweep to compare and to record the report in, unless `runs` is given.
        runs: ids of single runs to compare; the report is recorded in a new run.
        folder: where the files go.

    Returns:
        Whether every job had finished and every pair could be compared.

    Raises:
        UserError: there is nothing to compare.
    """
    from rich.console import Console

    from quantexp.pairing import summarise
    from quantexp.report import write_report
    from quantexp.report.table import comparison_table

    records, failures = store.jobs(runs) if runs else store.jobs_of(sweep)
    if not records:
        reasons = " ".join(failures) or "it has no jobs."
        raise UserError(f"No finished job to compare in {'these runs' if runs else f'sweep {sweep}'}: {reasons}")
    models = ", ".join(dict.fromkeys(record.tags["model"] for record in records))
    data = ", ".join(dict.fromkeys(record.tags["data"] for record in records))
    summary = summarise(records, failures, stats, f"{models}, {data} data")
    files = write_report(summary, folder)
    written = [files.markdown, files.comparisons_csv, files.conditions_csv, *files.charts]
    if runs:
        with store.start("aggregate", "aggregate", None, {"runs": ",".join(runs)}) as run:
            run.log_files(written)
    else:
        store.run(sweep).log_files(written)
    console = Console()
    console.print(comparison_table(summary))
    for what, path in {"chart": files.charts[0], "report": files.markdown}.items():
        console.print(f"{what:7}{path}", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"browse mlflow ui --backend-store-uri {store.uri}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    return not (summary.refusals or summary.failures)


@hydra.main(version_base="1.3", config_path="pkg://quantexp.conf", config_name="aggregate")
def _app(composed: DictConfig) -> None:
    with past_hydra():
        _run(composed)


def _run(composed: DictConfig) -> None:
    config = validated(composed, AggregateConfig)
    from quantexp.tracking import Store

    store = Store(config.tracking)
    sweep = store.latest_sweep() if config.sweep == "latest" and not config.runs else config.sweep
    folder = Path(HydraConfig.get().runtime.output_dir) / "report"
    if not aggregate(config.stats, store, sweep, config.runs, folder):
        raise SystemExit(1)


def main() -> None:
    """Entry point."""
    register_schemas()
    with reported():
        _app()


if __name__ == "__main__":
    main()
