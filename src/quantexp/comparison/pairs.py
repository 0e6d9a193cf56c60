"""A condition's runs beside the baseline's, on the items that both answered."""

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from quantexp.comparison.groups import Group
from quantexp.config import Method, StatsConfig, Target, Unit
from quantexp.stats import Method as StatsMethod
from quantexp.stats import PairedComparison, compare, compare_units
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class Pair:
    """A condition and its baseline.

    Attributes:
        partner: the baseline's runs.
        group: the condition's runs.
        both: items, or items and seeds, that both have.
        difference: of their scores.
    """

    partner: Group
    group: Group
    both: pd.Index
    difference: PairedComparison

    def unit_scores(self, stats: StatsConfig) -> pd.DataFrame:
        """Return the mean scores of each unit, by its name: a column `before`, and one `after`."""
        sides = [_select_answers(side, self.both, stats) for side in (self.partner, self.group)]
        if stats.unit is Unit.item:
            owners = (self.partner, self.group)
            sides = [side.groupby(owner.name_units(side)).mean() for owner, side in zip(owners, sides, strict=True)]
        return pd.concat(sides, axis=1, keys=["before", "after"], join="inner")


def make_pair(partner: Group, group: Group, both: pd.Index, stats: StatsConfig) -> Pair:
    """Compare a condition with its baseline on the items, or items and seeds, that both have."""
    before, after = (_select_answers(side, both, stats) for side in (partner, group))
    if stats.method is Method.sequential:
        before, after = group.as_drawn(before), group.as_drawn(after)
    options = choose_options(group, stats)
    if before.index.equals(after.index):
        units = None if stats.unit is Unit.answer else group.units(after)
        return Pair(partner, group, both, compare(before.to_numpy(), after.to_numpy(), clusters=units, **options))
    # The same items under other seeds: only an item's means can be paired, not its single answers.
    ours, theirs = (
        np.asarray(side.groupby(each.units(side)).mean(), dtype=np.float64)
        for each, side in ((partner, before), (group, after))
    )
    found = compare_units(ours, theirs, answers=len(before), design_effect=nan, **options)
    return Pair(partner, group, both, found)


def _select_answers(side: Group, both: pd.Index, stats: StatsConfig) -> "pd.Series[float]":
    """Return the answers of one side that count, in order."""
    level = None if stats.unit is Unit.answer else "item"
    own = side.answers.index if stats.unit is Unit.answer else side.items
    return (
        side.answers if len(own) == len(both) else side.answers[side.answers.index.isin(both, level=level)].sort_index()
    )


def choose_options(group: Group, stats: StatsConfig) -> dict[str, Any]:
    """Return the options of every estimate of a group.

    Raises:
        UserError: the target is the data's own items, and the runs do not say how many those are.
    """
    population = None
    if stats.target is Target.items:
        found = {run.metrics.get("items_in_data") for run in group.runs}
        if len(found) > 1 or None in found:
            raise UserError(
                f"stats.target=items needs to know how many items the data of {group.task} have, and the runs of "
                f"{group.quant} do not say; run them again with force=true, or set stats.target=population."
            )
        population = int(found.pop() or 0)
    return {"population": population, "method": StatsMethod(stats.method.value), **stats.resampling}
