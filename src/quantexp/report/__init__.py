"""Reports: what a finished comparison found, as a page with charts, a terminal table, CSV, and markdown to paste."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.comparison.summary import Comparison, Condition, Summary, reading
from quantexp.util.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Comparison",
    "Condition",
    "ReportFiles",
    "Summary",
    "reading",
    "write_report",
]


@dataclass(frozen=True)
class ReportFiles:
    """Files of a report.

    Attributes:
        html: The report, report.html: one file that needs no other.
        markdown: The short page, report.md.
        comparisons_csv: Every comparison at full precision.
        conditions_csv: Every condition at full precision.
        charts: Of each chart that has files, PNG then SVG of each model's, in the order of the models.
        divergence_csv: Every divergence at full precision; None where it was not measured.
        samples_csv: pass@k and majority@k at full precision; None where items have one answer each.
    """

    html: Path
    markdown: Path
    comparisons_csv: Path
    conditions_csv: Path
    charts: tuple[Path, ...]
    divergence_csv: Path | None = None
    samples_csv: Path | None = None

    @property
    def all(self) -> list[Path]:
        """Every file of the report."""
        some = [each for each in (self.divergence_csv, self.samples_csv) if each is not None]
        return [self.html, self.markdown, *some, self.comparisons_csv, self.conditions_csv, *self.charts]


def write_report(summary: Summary, folder: Path, changed: "pd.DataFrame | None" = None) -> ReportFiles:
    """Write the report's files into a folder, made when missing; files of the same name go.

    Every file is complete or absent, and the page that links the others comes last.

    Args:
        summary: What to report.
        folder: Where to.
        changed: The changed answers (`flips.flip_rows`), to be read in the report; None where nobody looked at them.

    Raises:
        OSError: The folder or a file cannot be written.
    """
    # Drawing is slow to import, and most of the package never draws.
    from quantexp.report.chart_files import save_charts
    from quantexp.report.charts import charts
    from quantexp.report.divergence import divergence_csv, has_divergence
    from quantexp.report.html import report_html
    from quantexp.report.markdown import report_markdown
    from quantexp.report.sampled import samples_csv
    from quantexp.report.tables import comparisons_csv, conditions_csv

    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(summary)
    files = ReportFiles(
        html=folder / "report.html",
        markdown=folder / "report.md",
        comparisons_csv=folder / "comparisons.csv",
        conditions_csv=folder / "conditions.csv",
        charts=tuple(save_charts(summary, drawn, folder)),
        divergence_csv=folder / "divergence.csv" if has_divergence(summary) else None,
        samples_csv=folder / "samples.csv" if any(each.sampled for each in summary.conditions) else None,
    )
    if files.divergence_csv is not None:
        write_atomically(files.divergence_csv, divergence_csv(summary).encode())
    if files.samples_csv is not None:
        write_atomically(files.samples_csv, samples_csv(summary).encode())
    write_atomically(files.comparisons_csv, comparisons_csv(summary).encode())
    write_atomically(files.conditions_csv, conditions_csv(summary).encode())
    write_atomically(files.html, report_html(summary, drawn, changed).encode())
    write_atomically(files.markdown, report_markdown(summary).encode())
    return files
