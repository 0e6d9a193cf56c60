"""Reports: what a finished comparison found, as a page with charts, a terminal table, CSV, and markdown to paste."""

from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.util.files import open_atomically, write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from quantexp.comparison.summary import Summary

PAGE = "report.html"
"""The report, one file that needs no other; beside it are a short page, tables at full precision, and chart files."""


def write_report(
    summary: "Summary", folder: Path, changed: "pd.DataFrame | None" = None, *, is_alone: bool = False
) -> list[Path]:
    """Write the report's files into a folder, made when missing, and return them; files of the same name go.

    Every file is complete or absent, and the page that links the others comes last.

    Args:
        summary: What to report.
        folder: Where to.
        changed: The changed answers (`flips.flip_rows`), to be read in the report; None where nobody looked at them.
        is_alone: Whether no run in MLflow holds the changed answers; their table is then written beside the report.

    Raises:
        OSError: The folder or a file cannot be written.
    """
    # Drawing is slow to import, and most of the package never draws.
    from quantexp.report.chart_files import save_charts
    from quantexp.report.charts import charts
    from quantexp.report.divergence import divergence_csv, has_divergence
    from quantexp.report.divergence_limits import rank_csv
    from quantexp.report.factor_grid import interactions_csv
    from quantexp.report.html import report_html
    from quantexp.report.markdown import report_markdown
    from quantexp.report.outcomes import outcomes_csv
    from quantexp.report.pools import models_csv, pools_csv
    from quantexp.report.sampled import samples_csv
    from quantexp.report.tables import comparisons_csv, conditions_csv

    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(summary)
    files = {
        **({"divergence.csv": divergence_csv(summary)} if has_divergence(summary) else {}),
        **({"rank_agreement.csv": rank_csv(summary)} if summary.rank_agreements else {}),
        **({"outcomes.csv": outcomes_csv(summary)} if any(each.outcomes for each in summary.comparisons) else {}),
        **({"samples.csv": samples_csv(summary)} if any(each.sampled for each in summary.conditions) else {}),
        **({"interactions.csv": interactions_csv(summary)} if summary.interactions else {}),
        **({"pools.csv": pools_csv(summary)} if summary.pools else {}),
        **({"models.csv": models_csv(summary)} if summary.across else {}),
        "comparisons.csv": comparisons_csv(summary),
        "conditions.csv": conditions_csv(summary),
        PAGE: report_html(summary, drawn, changed, is_alone=is_alone),
        "report.md": report_markdown(summary),
    }
    tables = []
    if is_alone and changed is not None:
        tables.append(folder / "flips.parquet")
        with open_atomically(tables[0]) as part:
            changed.to_parquet(part, index=False)
    pictures = save_charts(summary, drawn, folder)
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [*(folder / name for name in files), *tables, *pictures]
