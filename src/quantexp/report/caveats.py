"""The caveats beside a verdict: the few that are read first, and how many more the report has."""

import textwrap

from quantexp.comparison.summary import Summary

MOST = 5
"""Caveats that stand beside a verdict."""

LONGEST = 200
"""Characters of a note that stand there; all of it is in the report."""


def select_caveats(summary: Summary) -> tuple[list[str], int]:
    """Return the most important caveats, one sentence each, and the number of those that only the report has.

    What is missing comes first, then what has changed since it was declared, then the notes in their order.
    """
    caveats = [
        *(f"Failed: {failure}" for failure in summary.failures),
        *(f"Not compared: {refusal}" for refusal in summary.refusals),
        *(f"Changed since it was declared: {change}" for change in _changes(summary)),
        *(f"Note: {shorten_note(note)}" for note in summary.notes),
    ]
    return caveats[:MOST], max(0, len(caveats) - MOST)


def format_more(count: int) -> str:
    """Words for the caveats that only the report has; empty if there are none."""
    return f"and {count} more in the report" if count else ""


def shorten_note(note: str) -> str:
    """Return a note's first line, at most `LONGEST` characters of it."""
    return textwrap.shorten(note.partition("\n")[0], LONGEST, placeholder=" ...")


def _changes(summary: Summary) -> tuple[str, ...]:
    return () if summary.registered is None else summary.registered.changes
