"""Accuracy by length and depth, as a table: how far into a text of how many tokens a model still finds things."""

from collections.abc import Iterator

from quantexp.comparison.subgroups import Part
from quantexp.comparison.summary import Comparison, Summary
from quantexp.comparison.wording import difference_text, score_text
from quantexp.report.columns import Grid
from quantexp.tracking.tags import PLACE, PLACES

FILE = "length_depth"
"""Name of the chart's files."""

SPREAD = "spread"
"""Row of items that ask for what lies in several places of a text."""

Cell = tuple[int, int | None]
"""Tokens and percent, None for several places."""


def has_depths(summary: Summary, model: str) -> bool:
    """Tell if items of a model have places in texts of some length."""
    return any(list_cells(each) for each in summary.select_comparisons(model))


def list_cells(comparison: Comparison) -> dict[Cell, Part]:
    """Return the parts of a comparison by length and depth, short texts first, and from the beginning to the end."""
    found: dict[Cell, Part] = {}
    for part in comparison.parts:
        if part.by == PLACE and (read := PLACES.fullmatch(part.name)):
            found[int(read[1]), None if read[2] is None else int(read[2])] = part
    return dict(sorted(found.items(), key=lambda each: (each[0][0], order_depth(each[0][1]))))


def order_depth(depth: int | None) -> int:
    """Return what depths are sorted by: several places come last."""
    return 101 if depth is None else depth


def name_depth(depth: int | None) -> str:
    """Return a depth in words."""
    return SPREAD if depth is None else f"{depth}%"


def depths_grid(summary: Summary) -> Grid:
    """Tabulate each cell of each comparison: the scores of both sides and their difference, with intervals."""
    header = (
        *("task", "tokens", "depth", summary.noun, "n"),
        *("baseline, points", f"{summary.noun}'s, points", "baseline - it, points"),
    )
    return Grid(header, "lrrlrrrr", tuple(_list_rows(summary)))


def _list_rows(summary: Summary) -> Iterator[tuple[str, ...]]:
    for comparison in summary.select_comparisons():
        for (length, depth), part in list_cells(comparison).items():
            scores = [" ".join(score_text(each)) for each in part.scores or ()] or ["-", "-"]
            told = (summary.section(comparison), f"{length:,}", name_depth(depth), comparison.quant)
            yield (*told, str(part.difference.n), *scores, " ".join(difference_text(part.difference)))
