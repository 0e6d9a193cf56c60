"""`python -m quantexp.aggregate`: compare the runs of any earlier sweep, or of a list of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from quantexp.config import AggregateConfig, StatsConfig, register_schemas
from quantexp.errors import UserError, past_hydra, reported
from quantexp.validation import validated

if TYPE_CHECKING:
    from quantexp.report import Summary
    from quantexp.tracking import JobRecord, Store


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
    from quantexp.diverged import diverged
    from quantexp.flipped import flipped
    from quantexp.pairing import summarise
    from quantexp.report import write_report
    from quantexp.tracking import FLIPS

    records, failures = finished_jobs(store, sweep, runs, "compare")
    registration = None if runs else store.registration(sweep)
    summary = summarise(records, failures, stats, title_of(records), registration)
    summary, changed = flipped(summary, records, store, stats)
    summary = diverged(summary, records, store, confidence=stats.confidence, seed=stats.seed)
    files = write_report(summary, folder, changed)
    if runs:
        with store.start("aggregate", "aggregate", None, {"runs": ",".join(runs)}) as run:
            run.log_files(files.all)
            run.log_items(changed, FLIPS)
    else:
        store.run(sweep).log_files(files.all)
        store.run(sweep).log_items(changed, FLIPS)
    show(summary, {"chart": files.charts[0], "report": files.html}, store)
    return not (summary.refusals or summary.failures)


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
    data = ", ".join(dict.fromkeys(record.tags["data"] for record in records))
    return f"{models}, {data} data"


def show(summary: "Summary", paths: dict[str, Path], store: "Store") -> None:
    """Print the comparison, and where the rest is; in a terminal that can, a path opens what it names."""
    from rich.console import Console
    from rich.text import Text

    from quantexp.report.table import comparison_table

    console = Console()
    console.print(comparison_table(summary))
    for what, path in paths.items():
        line = Text.assemble(f"{what:7}", (str(path), f"link {path.absolute().as_uri()}"))
        console.print(line, soft_wrap=True, highlight=False)
    console.print(
        f"browse mlflow ui --backend-store-uri {store.uri}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


@hydra.main(version_base="1.3", config_path="pkg://quantexp.conf", config_name="aggregate")
def _app(composed: DictConfig) -> None:
    with past_hydra():
        _run(composed)


def _run(composed: DictConfig) -> None:
    config = validated(composed, AggregateConfig)
    from quantexp.tracking import Store

    store = Store(config.tracking)
    folder = Path(HydraConfig.get().runtime.output_dir) / "report"
    if not aggregate(config.stats, store, chosen_sweep(config, store), config.runs, folder):
        raise SystemExit(1)


def main() -> None:
    """Entry point."""
    register_schemas()
    with reported():
        _app()


if __name__ == "__main__":
    main()
