"""`quantexp.compare`: results that another harness has written, compared as data frames, for notebooks and scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import pandas as pd

from quantexp.comparison.results.analysis import compare_results
from quantexp.comparison.results.base import Selection
from quantexp.comparison.results.files import name_sources, read_results
from quantexp.config import StatsConfig
from quantexp.report import write_report
from quantexp.report.conclusions import sentences
from quantexp.report.frames import ComparisonFrames
from quantexp.util.errors import UserError

Source = str | Path | pd.DataFrame
"""A file or folder of results, or a table with an answer a row."""


@dataclass(frozen=True, repr=False)
class FileComparison(ComparisonFrames):
    """Outcome of a comparison of files or data frames.

    Scores and differences are fractions; positive differences mean that the baseline is better. In a notebook it shows
    the verdict and the table.

    Attributes:
        summary: Everything a report shows, as dataclasses.
        flips: The changed answers, one a row, with both outputs where the files have them.
    """

    def write(self, folder: str | Path = "compare") -> list[Path]:
        """Write the report into a folder, as the command does, and return its files."""
        return write_report(self.summary, Path(folder), self.flips, is_alone=True)

    def __repr__(self) -> str:
        return f"<comparison with {self.summary.baseline}: {' '.join(sentences(self.summary))}>"

    def _repr_html_(self) -> str:
        shown = self.comparisons.reindex(columns=["task", "quant", "difference", "low", "high", "n", "reading"])
        said = [*sentences(self.summary), *self.summary.refusals, *self.summary.failures]
        return "".join(f"<p>{escape(each)}</p>" for each in said) + shown.to_html(index=False)


def compare(
    baseline: Source,
    *others: Source,
    names: Sequence[str] | None = None,
    metric: str | None = None,
    filter: str | None = None,  # as on the command line
    columns: Mapping[str, str] | None = None,
    margin: float | None = None,
    stats: StatsConfig | None = None,
) -> FileComparison:
    """Compare results as `python -m quantexp.compare` does, and hand over the tables; nothing is written.

    Args:
        baseline: A file or folder of another harness, a table, or a data frame with an answer a row.
        *others: What is compared with it.
        names: A name for each, the baseline first; None: as their paths tell them apart.
        metric: The score, or the column of it; None: each task's first.
        filter: The filter of lm-evaluation-harness; None: each task's first.
        columns: Columns of a table by what they are, as {"item": "question_id"}; what is not given is guessed.
        margin: The drop of the mean score that would not matter; None: that of `stats`, two points by default.
        stats: How to compare; None: by default.

    Raises:
        UserError: Something cannot be read, or there is nothing to compare.
    """
    sources = [baseline, *others]
    if not others:
        raise UserError("quantexp.compare needs a baseline and at least one other: quantexp.compare(baseline, other).")
    chosen = list(names) if names is not None else _name_sources(sources)
    if len(chosen) != len(sources):
        raise UserError(
            f"names has {len(chosen)} names for {len(sources)} results; give each one, the baseline's first."
        )
    selection = Selection(metric, filter, columns or {})
    analysis = StatsConfig() if stats is None else stats
    if margin is not None:
        if not 0 < margin < 1:
            raise UserError(f"margin={margin} must be above 0 and below 1, such as 0.02 for 2 points.")
        analysis = replace(analysis, margin=margin)
    results = [read_results(source, selection, name) for source, name in zip(sources, chosen, strict=True)]
    compared = compare_results(results, analysis)
    return FileComparison(compared.summary, compared.changed)


def _name_sources(sources: Sequence[Source]) -> list[str]:
    """Name paths by what tells them apart, and data frames by their place."""
    paths = [str(source) for source in sources if not isinstance(source, pd.DataFrame)]
    of_paths = iter(name_sources(paths) if paths else [])
    frames = ["baseline", *("other" if len(sources) == 2 else f"other {n}" for n in range(1, len(sources)))]
    return [
        frame if isinstance(source, pd.DataFrame) else next(of_paths)
        for source, frame in zip(sources, frames, strict=True)
    ]
