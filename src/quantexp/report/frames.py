"""A comparison as data frames, for notebooks and scripts."""

from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from typing import Any

import pandas as pd

from quantexp.comparison.summary import Summary
from quantexp.report.columns import DataTable
from quantexp.report.markdown import description
from quantexp.report.pools import pools_table
from quantexp.report.tables import comparisons_table, conditions_table


def read_frame(table: DataTable[Any]) -> pd.DataFrame:
    """Return a table of the report as a data frame."""
    return pd.read_csv(StringIO(table.format_csv()))


@dataclass(frozen=True, repr=False)
class ComparisonFrames:
    """A comparison as data frames, and its verdict and table for notebooks."""

    summary: Summary
    flips: pd.DataFrame

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """One row a model, condition and task: score with its interval, bits per weight where they are known, n."""
        return read_frame(conditions_table(self.summary))

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """One row a comparison with the baseline: difference, interval, p, verdict."""
        return read_frame(comparisons_table(self.summary))

    @cached_property
    def pools(self) -> pd.DataFrame:
        """One row a condition over several tasks (stats.pool): difference, interval, verdict; empty without a pool."""
        return read_frame(pools_table(self.summary))

    def _repr_markdown_(self) -> str:
        return description(self.summary)
