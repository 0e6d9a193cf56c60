"""The table of what answers are besides right or wrong."""

from typing import NamedTuple

from quantexp.comparison.outcomes import WORDS, OutcomeShift
from quantexp.comparison.summary import Comparison, Summary
from quantexp.comparison.wording import format_points, format_range
from quantexp.report.columns import Cell, Column, DataTable, Grid, list_attributes

OUTCOMES_NOTE = (
    "Of the answers that both sides gave; the change is the quant's minus the baseline's, each interval alone, not "
    "corrected for their number. Shares are of all answers, an item with several counting once. A loop: the end of "
    "the reasoning or of the answer repeats a short text at least three times. Another script: letters that the prompt "
    "does not use, as Chinese in an English answer."
)


class _Row(NamedTuple):
    comparison: Comparison
    shift: OutcomeShift


def outcomes_table(summary: Summary) -> DataTable[_Row]:
    """Return every outcome of every quant beside the baseline's; in files shares are fractions, lengths tokens."""
    columns: list[Column[_Row]] = [
        Column("model", lambda row: row.comparison.model),
        Column("task", lambda row: row.comparison.task, "task", lambda row: summary.section(row.comparison), side="l"),
        Column("baseline", lambda row: row.comparison.baseline),
        Column("quant", lambda row: row.comparison.quant, summary.noun, side="l"),
        Column("outcome", lambda row: row.shift.name, "outcome", lambda row: WORDS[row.shift.name], side="l"),
        Column(
            "of_baseline",
            lambda row: row.shift.baseline,
            summary.baseline,
            lambda row: _amount(row.shift, row.shift.baseline),
        ),
        Column("of_quant", lambda row: row.shift.quant, "the quant", lambda row: _amount(row.shift, row.shift.quant)),
        Column("change", lambda row: row.shift.change.difference, "change", lambda row: _change(row.shift)),
        *list_attributes(lambda row: row.shift.change, "low", "high"),
        Column("interval", lambda row: row.shift.change.interval_method),
        Column("n", lambda row: row.shift.change.n),
    ]
    return DataTable(columns, [_Row(each, shift) for each in summary.select_comparisons() for shift in each.outcomes])


def outcomes_grid(summary: Summary) -> Grid:
    """Tabulate the outcomes; no rows where the answers were not looked at."""
    return outcomes_table(summary).show("task", "quant", "outcome", "of_baseline", "of_quant", "change")


def _amount(shift: OutcomeShift, value: float) -> str:
    return f"{value:.1f} tokens" if shift.is_length else f"{100 * value:.1f}%"


def _change(shift: OutcomeShift) -> Cell:
    change = shift.change
    if shift.is_length:
        return f"{change.difference:+.1f}", f"[{change.low:+.1f}, {change.high:+.1f}]"
    return format_points(change.difference), format_range(change.low, change.high)
