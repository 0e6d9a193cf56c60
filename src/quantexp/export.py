"""`python -m quantexp.export`: a sweep's results in the forms in which quants are published."""

from functools import partial
from pathlib import Path

from quantexp.config import AggregateConfig, ExportConfig
from quantexp.config.command_line import hydra_command
from quantexp.config.validation import validated


@hydra_command("quantexp.export", lambda composed: validated(composed, ExportConfig))
def main(config: ExportConfig) -> None:
    """Entry point."""
    from quantexp.comparison.analysis import chosen_sweep, compare, finished_jobs, open_store
    from quantexp.comparison.published_jobs import publish_comparison
    from quantexp.config.published import publish_command
    from quantexp.report.export_files import write_export
    from quantexp.tracking.backend import Access

    store = open_store(config.tracking, Access.read)
    sweep = chosen_sweep(AggregateConfig(sweep=config.sweep, runs=config.runs), store)
    records, failures = finished_jobs(store, sweep, config.runs, "export")
    compared = compare(records, failures, config.stats, store, None if config.runs else sweep)
    command = None if config.runs else store.command(sweep)
    publication = publish_comparison(
        compared, config.stats, store, None if command is None else publish_command(command)
    )
    write = partial(write_export, benchmarks=config.benchmarks, url=config.url, author=config.author)
    files, left_out = write(Path(config.out).expanduser(), compared.summary, publication)
    for sentence in (*compared.summary.failures, *compared.summary.refusals, *left_out):
        print(sentence)  # noqa: T201
    print(f"exported {len(publication.conditions)} conditions: {', '.join(map(str, files))}")  # noqa: T201


if __name__ == "__main__":
    main()
