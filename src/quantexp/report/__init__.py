"""Reports: what a finished comparison found, as a page with charts, a terminal table, CSV, and markdown to paste."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantexp.util.files import open_atomically, write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from quantexp.comparison.summary import Summary
    from quantexp.report.columns import DataTable

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
    from quantexp.report.divergence import divergences_table
    from quantexp.report.divergence_limits import ranks_table
    from quantexp.report.factor_grid import interactions_table
    from quantexp.report.html import report_html
    from quantexp.report.markdown import report_markdown
    from quantexp.report.outcomes import outcomes_table
    from quantexp.report.pools import models_table, pools_table
    from quantexp.report.sampled import samples_table
    from quantexp.report.tables import comparisons_table, conditions_table

    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(summary)
    optional: dict[str, DataTable[Any]] = {
        "divergence.csv": divergences_table(summary),
        "rank_agreement.csv": ranks_table(summary),
        "outcomes.csv": outcomes_table(summary),
        "samples.csv": samples_table(summary),
        "interactions.csv": interactions_table(summary),
        "pools.csv": pools_table(summary),
        "models.csv": models_table(summary),
    }
    files = {
        **{name: table.format_csv() for name, table in optional.items() if table.rows},
        "comparisons.csv": comparisons_table(summary).format_csv(),
        "conditions.csv": conditions_table(summary).format_csv(),
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
