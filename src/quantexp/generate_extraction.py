"""`python -m quantexp.generate_extraction`: e-mails with gold fields for the task `extraction`, written by a model."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config.command_line import hydra_command
from quantexp.config.emails import GenerateConfig, generate_config, refuse_multirun, register_schemas
from quantexp.util.errors import UserError
from quantexp.util.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from quantexp.tasks.emails.generation import Making
    from quantexp.tasks.emails.records import Journal


def _check_arguments(arguments: Sequence[str]) -> None:
    """Say what to write instead of model=NAME, which Hydra takes for a choice of conf/model and refuses in riddles.

    Raises:
        UserError: an argument is that, or asks for several runs.
    """
    for argument in arguments:
        key, equals, name = argument.partition("=")
        if equals and key.lstrip("+") == "model":
            raise UserError(f"{argument}: this command's model is called model.name; write model.name={name}.")
    refuse_multirun(arguments)


@hydra_command("quantexp.generate_extraction", GenerateConfig, generate_config, register_schemas, _check_arguments)
def main(config: GenerateConfig) -> None:
    """Entry point."""
    # Only now: composing, --help and shell completion do without these heavy imports.
    from rich.console import Console

    from quantexp.tasks.emails.generation import Making, refuse_other_settings
    from quantexp.tasks.emails.records import Journal, Record, find_companion, read_lines, refuse_changed_by_hand
    from quantexp.tasks.emails.reviews import Review, select_rejected
    from quantexp.tasks.emails.summary import say_stock, say_summary
    from quantexp.tasks.emails.terminal import say_damaged
    from quantexp.util.openai_client import read_key

    console = Console()
    out = Path(config.out).expanduser()
    path = find_companion(out, "records")
    with ExitStack() as stack:
        # A new file stays only if something has been written.
        journal = stack.enter_context(Journal(path, exclusive=True)) if path.exists() else None
        records, damaged = read_lines(path, Record)
        reviews, damaged_reviews = read_lines(find_companion(out, "reviews"), Review)
        say_damaged(console, damaged, path)
        say_damaged(console, damaged_reviews, find_companion(out, "reviews"))
        refuse_other_settings(records, config, path)
        refuse_changed_by_hand(out, records)
        making = Making(config, records, select_rejected(reviews))
        if making.open_slots:
            read_key(config.api_key_variable, "api_key_variable")  # no key: refuse before asking anything
            say_stock(console, config, making)
            if not _confirmed(config):
                say(console, "Nothing was sent.")
                raise SystemExit(1)
            journal = journal or stack.enter_context(Journal(path, exclusive=True))
            if journal.size and not records and not damaged:
                raise UserError(
                    f"Another command has just written to {path}; run this one again, which goes on from there."
                )
            _make(console, config, making, journal, out)
        else:
            _write(making, out)
        say_summary(console, config, making, len(records), out)
        if making.open_slots:
            raise SystemExit(1)


def _confirmed(config: GenerateConfig) -> bool:
    from quantexp.tasks.emails.terminal import asked

    if config.yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(
            "Nothing was sent, because there is no terminal to ask on; add yes=true to spend without asking."
        )
    try:
        return asked("go on? [y/N] ").lower() in ("y", "yes")
    except EOFError:
        print()  # noqa: T201 - the line of the question has not ended
        return False


def _make(console: "Console", config: GenerateConfig, making: "Making", journal: "Journal", out: Path) -> None:
    import asyncio

    from quantexp.tasks.emails.client import Client
    from quantexp.util.progress import bar

    async def ask() -> None:
        with bar("e-mails", len(making.open_slots)) as advance:
            async with Client(config) as client:
                await making.run(client, journal, advance)

    try:
        asyncio.run(ask())
    except (KeyboardInterrupt, UserError):
        _write(making, out)
        there = f"{len(making.items)} of {config.items} e-mails are in {out}, and every answer is kept; "
        if not making.items:
            there = f"No e-mail is there yet; every answer is kept in {journal.path}; " if making.records else ""
        say(console, f"{there}the same command goes on from here." if there else "No answer has come.")
        raise
    _write(making, out)


def _write(making: "Making", out: Path) -> None:
    from quantexp.tasks.emails.records import write_items

    write_items(out, making.items)


if __name__ == "__main__":
    main()
