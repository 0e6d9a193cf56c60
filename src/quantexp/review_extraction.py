"""`python -m quantexp.review_extraction`: read the e-mails of `generate_extraction`, and say which may stay."""

from pathlib import Path

from quantexp.config.command_line import hydra_command
from quantexp.config.emails import ReviewConfig, refuse_multirun, register_schemas, review_config
from quantexp.util.errors import UserError


@hydra_command("quantexp.review_extraction", ReviewConfig, review_config, register_schemas, refuse_multirun)
def main(config: ReviewConfig) -> None:
    """Entry point."""
    # Only now: composing, --help and shell completion do without these imports.
    from rich.console import Console

    from quantexp.tasks.data.files import read_rows
    from quantexp.tasks.emails.records import find_companion, read_lines
    from quantexp.tasks.emails.review_session import Reading
    from quantexp.tasks.emails.reviews import Review
    from quantexp.tasks.emails.terminal import say_damaged
    from quantexp.tasks.extraction import TASK
    from quantexp.tasks.items import make_items

    rows = read_rows(config.path, "path", "make it with python -m quantexp.generate_extraction")
    make_items(rows, TASK, f"path={config.path}")  # refuses what is no e-mail with its fields
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("id"), str):
            raise UserError(f"path={config.path}, row {number}, has no id, to which a verdict could be bound; add one.")
    path = find_companion(Path(config.path).expanduser(), "reviews")
    console = Console()
    reviews, damaged = read_lines(path, Review)
    say_damaged(console, damaged, path)
    reading = Reading(console, config.reviewer, rows[: config.first], reviews, path)
    reading.walk()
    reading.conclude(len(rows), config.path)


if __name__ == "__main__":
    main()
