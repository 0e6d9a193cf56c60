"""`python -m quantexp.compare`: compare results that another harness has written, item by item."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.comparison.results.words import rewrite_words
from quantexp.config import CompareConfig, TrackingConfig
from quantexp.config.command_line import hydra_command

if TYPE_CHECKING:
    from quantexp.comparison.analysis import JobComparison


def _record(compared: "JobComparison", files: Sequence[Path], tracking: TrackingConfig) -> str:
    """Record the report in a run of its own, and return the command that shows it."""
    from quantexp.report.mlflow_pages import describe_comparison
    from quantexp.tracking.store import Store
    from quantexp.tracking.tags import FLIPS

    store = Store(tracking)
    with store.start("compare", "aggregate", None, {"results": compared.summary.title}) as run:
        run.log_files(files)
        run.log_items(compared.changed, FLIPS)
        describe_comparison(compared.summary, run)
    return store.browse


@hydra_command("quantexp.compare", CompareConfig, rewrite=rewrite_words)
def main(config: CompareConfig) -> None:
    """Entry point."""
    from quantexp.comparison.results.analysis import compare_named
    from quantexp.report import PAGE, write_report
    from quantexp.report.terminal import show

    compared = compare_named(config, "quantexp.compare")
    summary, folder = compared.summary, Path(config.out).expanduser()
    files = write_report(summary, folder, compared.changed, is_alone=True)
    browse = _record(compared, files, config.tracking) if config.mlflow else None
    show(summary, folder / PAGE, browse)
    if summary.refusals or summary.failures or not summary.comparisons:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
