"""Summaries that `quantexp.generate_extraction` prints before and after."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quantexp.config.emails import GenerateConfig
from quantexp.tasks.emails.client import hide_credentials
from quantexp.tasks.emails.generation import Making, Price, find_price
from quantexp.tasks.emails.records import Record, find_companion, item_id
from quantexp.tasks.extraction import CATEGORIES, URGENCIES
from quantexp.util.terminal import one_line, say

SHOWN = 20
"""Open e-mails that are listed one by one."""


def say_stock(console: Console, config: GenerateConfig, making: Making) -> None:
    """Print what is missing, and what it will cost."""
    price, estimate = find_price(config), making.estimate()
    there = config.items - estimate.requests
    emails = "1 e-mail" if estimate.requests == 1 else f"{estimate.requests} e-mails"
    why = f", {making.reopened} of them because a reviewer has rejected what was there" if making.reopened else ""
    if making.reopened == estimate.requests:
        why = ", because a reviewer has rejected what was there"
    say(console, f"{emails} to make{why}; {there} of {config.items} are in {config.out}.")
    say(console, f"model     {config.model.name} at {hide_credentials(config)}")
    say(
        console,
        f"estimate  {_spent(price, estimate.input_tokens, estimate.output_tokens)}, if every answer is accepted",
    )
    most = f"if every e-mail takes {config.attempts} answers of {config.max_tokens:,} tokens"
    say(console, f"at most   {_spent(price, estimate.most_input_tokens, estimate.most_output_tokens)}, {most}")
    if price is None:
        say(console, "The price of this model is not known here; price.input and price.output set it.")


def say_summary(console: Console, config: GenerateConfig, making: Making, earlier: int, out: Path) -> None:
    """Print what there is now.

    Args:
        console: where to.
        config: of this run.
        making: after the run.
        earlier: how many of its records are from earlier runs.
        out: the file of e-mails.
    """
    price, ours = find_price(config), making.records[earlier:]
    console.print(_table(making))
    say(console, f"answers   {_verdicts(config, making)}")
    if ours:
        say(console, f"this run  {len(ours)} answers, {_used(price, ours)}")
    if earlier:
        say(console, f"all runs  {len(making.records)} answers, {_used(price, making.records)}")
    for slot in making.open_slots[:SHOWN]:
        plan = making.plans[slot]
        why = one_line(making.left.get(slot, "not asked"))
        say(console, f"open      {item_id(slot)} ({plan.category}, {plan.urgency}): {why}")
    if len(making.open_slots) > SHOWN:
        say(console, f"open      and {len(making.open_slots) - SHOWN} more")
    where = out if making.items else "none yet"
    say(console, f"e-mails   {where} ({len(making.items)} of {config.items})")
    if making.records:
        say(console, f"records   {find_companion(out, 'records')}")
    if making.open_slots:
        say(console, "next      the same command again asks for what is missing")
    else:
        path = "" if config.out == GenerateConfig.out else f" path={out}"
        say(console, f"next      python -m quantexp.review_extraction reviewer=NAME{path}")


def _table(making: Making) -> Table:
    """Count the e-mails of each pair of labels."""
    counts = Counter((item["issue_category"], item["urgency"]) for item in making.items)
    table = Table("category", *URGENCIES, "all")
    for column in table.columns[1:]:
        column.justify = "right"
    for category in CATEGORIES:
        row = [counts[category, urgency] for urgency in URGENCIES]
        table.add_row(category, *map(str, row), str(sum(row)))
    table.add_section()
    columns = [sum(counts[category, urgency] for category in CATEGORIES) for urgency in URGENCIES]
    table.add_row("all", *map(str, columns), str(sum(columns)))
    return table


def _verdicts(config: GenerateConfig, making: Making) -> str:
    """Count accepted and rejected answers, with reasons, the commonest first."""
    reasons = Counter(record.reason for record in making.records if not record.accepted)
    accepted = len(making.records) - reasons.total()
    why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    beyond = sum(record.accepted and record.slot >= config.items for record in making.records)
    anew = accepted - beyond - len(making.items)
    of_them = ((f"{anew} of them rejected or replaced after a review",) if anew else ()) + (
        (f"{beyond} of them beyond items={config.items}",) if beyond else ()
    )
    return (
        f"{accepted} accepted"
        + (f" ({', '.join(of_them)})" if of_them else "")
        + f", {reasons.total()} rejected"
        + (f": {why}" if why else "")
    )


def _used(price: Price | None, records: Sequence[Record]) -> str:
    """Tokens as the server counted them, and what they cost."""
    read = sum(record.input_tokens or 0 for record in records)
    written = sum(record.output_tokens or 0 for record in records)
    silent = sum(record.input_tokens is None or record.output_tokens is None for record in records)
    return _spent(price, read, written) + (f"; the server did not count those of {silent} answers" if silent else "")


def _spent(price: Price | None, read: int, written: int) -> str:
    tokens = f"{read:,} tokens in, {written:,} out"
    return f"{tokens}, price unknown" if price is None else f"{tokens}, {_dollars(price.of(read, written))}"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"
