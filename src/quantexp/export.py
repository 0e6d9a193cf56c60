"""`python -m quantexp.export`: a sweep's results in the forms in which quants are published."""

from functools import partial
from pathlib import Path

from quantexp.config import ExportConfig
from quantexp.config.command_line import hydra_command


@hydra_command("quantexp.export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Entry point."""
    from quantexp.comparison.analysis import compare_sweep
    from quantexp.comparison.published_jobs import publish_comparison
    from quantexp.config.published import publish_command
    from quantexp.report.export_files import write_export

    store, sweep, compared = compare_sweep(config.tracking, config.sweep, config.runs, config.stats, "export")
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
