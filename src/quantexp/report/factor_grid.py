"""Grids of two factors: the loss of each pair of levels, and whether the losses add up."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from quantexp.comparison.interactions import Axis, find_axes
from quantexp.comparison.summary import Condition, Interaction, Summary
from quantexp.comparison.wording import difference_text, format_points, format_range, interval_names
from quantexp.report.columns import Column, DataTable, Grid, list_attributes

GRID_NOTE = (
    "Baseline minus condition on the same items, in points, in brackets with its interval: rows and columns are the "
    "levels of two factors, all others as the baseline's."
)

INTERACTION_NOTE = (
    "An interaction is what both changes lose together beyond the sum of what each loses alone. Near 0 the losses add "
    "up; above 0 one makes the other worse. p after Holm for all interactions of this report."
)


@dataclass(frozen=True)
class FactorGrid:
    """Losses by two factors on one task.

    Attributes:
        title: the task, with the model if there are several.
        grid: a row for each level of the first factor, a column for each of the second.
    """

    title: str
    grid: Grid


def list_factor_grids(summary: Summary) -> list[FactorGrid]:
    """Return a grid for each task and each pair of factors that vary there; none if only one does."""
    found = []
    for place in summary.places():
        ladder = summary.ladder(*place)
        reference = summary.find_condition(*place, summary.baseline)
        if reference is None or any(each.levels.keys() != reference.levels.keys() for each in ladder):
            continue
        axes = find_axes([each.levels for each in ladder])
        for pair in combinations(axes, 2):
            fixed = {*axes} - {*pair}
            shown = [
                each for each in ladder if all(axis.read(each.levels) == axis.read(reference.levels) for axis in fixed)
            ]
            grid = _cross(summary, shown, *pair)
            if len(grid.rows) > 1 and len(grid.header) > 2:
                found.append(FactorGrid(summary.make_title(*place), grid))
    return found


def _cross(summary: Summary, conditions: Sequence[Condition], first: Axis, second: Axis) -> Grid:
    by_levels = {(first.read(each.levels), second.read(each.levels)): each for each in conditions}
    rows = list(dict.fromkeys(row for row, _ in by_levels))
    columns = list(dict.fromkeys(column for _, column in by_levels))
    cells = tuple((row, *(_write(summary, by_levels.get((row, column))) for column in columns)) for row in rows)
    header = (f"{first.name} \\ {second.name}", *columns)
    return Grid(header, "l" + "r" * len(columns), cells)


def _write(summary: Summary, condition: Condition | None) -> str:
    if condition is None:
        return "-"
    comparison = summary.comparison(condition)
    if comparison is not None:
        return " ".join(difference_text(comparison.difference))
    return "the baseline" if condition.quant == summary.baseline else "not compared"


def interactions_table(summary: Summary) -> DataTable[Interaction]:
    """Return what two factors lose beyond the sum of each alone; fractions in files.

    It has no rows if no two factors were changed alone and together.
    """
    columns: list[Column[Interaction]] = [
        Column("model", lambda row: row.model),
        Column("task", lambda row: row.task, "task", lambda row: summary.make_title(row.model, row.task), "l"),
        Column("condition", lambda row: row.condition, "condition", side="l"),
        Column("alone", lambda row: " and ".join(row.alone), "beyond the sum of", side="l"),
        Column(
            "interaction",
            lambda row: row.contrast.estimate,
            f"interaction, points [{interval_names(summary)}]",
            lambda row: (format_points(row.contrast.estimate), format_range(row.contrast.low, row.contrast.high)),
        ),
        *list_attributes(lambda row: row.contrast, "low", "high", "p_value"),
        Column("p_adjusted", lambda row: row.p_adjusted, "p", lambda row: f"{row.p_adjusted:.3f}"),
        Column("n", lambda row: row.contrast.n[0], "n"),
    ]
    return DataTable(columns, summary.interactions)
