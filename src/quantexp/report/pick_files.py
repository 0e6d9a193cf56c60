"""A pick in files: Markdown, the chart, and the whole report with both on its page."""

from pathlib import Path

from quantexp.comparison.analysis import JobComparison
from quantexp.comparison.summary import Summary
from quantexp.report import PAGE
from quantexp.report.chart_files import save_charts
from quantexp.report.charts import charts
from quantexp.report.html import report_html
from quantexp.report.markdown import escape, write_table
from quantexp.report.memory import Memories, memory_chart
from quantexp.report.pick import PickReport
from quantexp.report.svg import panel_style
from quantexp.util.files import write_atomically

STEM = "memory"
"""Name of the chart's files."""


def write_pick(
    folder: Path, compared: JobComparison, report: PickReport, memories: Memories, budget: int | None
) -> list[Path]:
    """Write the report's page, the chart and pick.md into a folder, which is made if it is missing.

    Args:
        folder: where to.
        compared: the sweep.
        report: the pick in words.
        memories: of the conditions, for the chart.
        budget: bytes that there are; None if there is no limit to draw.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = compared.summary
    with panel_style():
        chart = memory_chart(summary, memories, budget, STEM)
    page = report_html(summary, charts(summary, chart), compared.changed, picked=report)
    write_atomically(folder / PAGE, page.encode())
    pictures = [] if chart is None else save_charts(summary, [chart], folder)
    shown = [each.name for each in pictures if each.suffix == ".png"]
    write_atomically(folder / "pick.md", pick_markdown(report, summary, shown).encode())
    return [folder / "pick.md", folder / PAGE, *pictures]


def pick_markdown(report: PickReport, summary: Summary, pictures: list[str]) -> str:
    """Write a pick in GitHub's dialect, with links to its pictures and its page."""
    parts = [f"# {escape(report.title)}", escape(f"{summary.title}; the baseline is {summary.baseline}.")]
    for each in report.parts:
        first, *others = each.sentences
        parts += [f"**{escape(first)}**", *map(escape, others), write_table(each.grid)]
    parts += [f"![Memory against the loss]({name})" for name in pictures]
    parts.append("\n".join(f"- {escape(note)}" for note in report.notes))
    parts.append(f"The whole report: [{PAGE}]({PAGE})")
    return "\n\n".join(parts) + "\n"
