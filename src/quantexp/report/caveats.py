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
    registered = summary.registered
    caveats = [
        *(f"Failed: {failure}" for failure in summary.failures),
        *(f"Not compared: {refusal}" for refusal in summary.refusals),
        *(f"Changed since it was declared: {change}" for change in (registered.changes if registered else ())),
        *(f"Note: {shorten_note(note)}" for note in summary.notes),
    ]
    return caveats[:MOST], max(0, len(caveats) - MOST)


def list_first_caveats(summary: Summary) -> list[str]:
    """Return the same, and how many more the report has, if it has more, as the last line."""
    caveats, more = select_caveats(summary)
    return [*caveats, *([f"and {more} more in the report"] if more else [])]


def shorten_note(note: str) -> str:
    """Return a note's first line, at most `LONGEST` characters of it."""
    return textwrap.shorten(note.partition("\n")[0], LONGEST, placeholder=" ...")
