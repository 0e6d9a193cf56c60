"""The comparison as a terminal table."""

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantexp.comparison.summary import Pooled, Summary
from quantexp.comparison.wording import (
    ZERO_WIDTH_NOTE,
    answer_text,
    declaration_text,
    difference_text,
    family_text,
    has_verdicts,
    has_zero_width,
    interval_names,
    is_corrected,
    margin_text,
    p_text,
    points,
    reading,
)
from quantexp.report.caveats import list_first_caveats
from quantexp.report.columns import Cell, choose
from quantexp.report.conclusions import sentences
from quantexp.report.divergence import divergence_table, has_divergence, ranking
from quantexp.report.pick import PickReport
from quantexp.report.pools import WEIGHTINGS
from quantexp.report.settling import settling_line
from quantexp.report.tables import comparison_columns, list_lines, range_text

NARROW, WIDE = 72, 110
"""Columns below which a quant takes lines of its own instead of a row, and from which a row is a single line."""


def show(summary: Summary, report: Path, browse: str | None, page: str | None = None) -> None:
    """Print the verdict, then the table with its caveats, and last where the report is and how to browse.

    On a terminal the verdict is wrapped, and the path opens the report; a path or a command, which is copied, is never
    wrapped, and elsewhere nothing is.

    Args:
        summary: the comparison.
        report: the page.
        browse: the command that opens MLflow; None where nothing is recorded in it.
        page: the address at which MLflow then shows the jobs, if they are in its store.
    """
    console = Console()
    said = " ".join(sentences(summary))
    if console.is_terminal:
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row("verdict", Text(said, style="bold"))
        console.print(line)
    else:
        console.print(Text(f"verdict {said}"), soft_wrap=True)
    console.print()
    console.print(comparison_table(summary, console.width))
    console.print(Text.assemble("report  ", (str(report), f"link {report.absolute().as_uri()}")), soft_wrap=True)
    if browse is not None:
        console.print(Text(f"browse  {browse}"), soft_wrap=True)
    if page is not None:
        console.print(Text(f"        {page}"), soft_wrap=True)


def show_pick(report: PickReport) -> None:
    """Print a pick: the answer, the candidates as a table and the notes."""
    console = Console()
    for part in report.parts:
        first, *others = part.sentences
        console.print(Text(first, style="bold"), soft_wrap=not console.is_terminal)
        for sentence in others:
            console.print(Text(sentence), soft_wrap=not console.is_terminal)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name, side in zip(part.narrow.header, part.narrow.sides, strict=True):
            table.add_column(name, justify="right" if side == "r" else "left", no_wrap=side == "r")
        for row in part.narrow.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for note in report.notes:
        console.print(Text(note), soft_wrap=not console.is_terminal)


def comparison_table(summary: Summary, width: int = 80) -> Table:
    """Lay out every model's scores and differences for a terminal.

    Estimates and their intervals are stacked unless there is room beside each other; in a narrow terminal each quant
    is a few lines. All text is ASCII apart from names, and colour only repeats what the words say.

    Args:
        summary: What to show.
        width: The terminal's columns.

    Returns:
        A grid holding one table per model and, below, how to read it, what was declared, and a few caveats.
    """
    grid = Table.grid(padding=(0, 0, 1, 0))
    for model in summary.models():
        if width < NARROW:
            grid.add_row(_model_lines(summary, model))
        else:
            grid.add_row(_model_table(summary, model, " " if width >= WIDE else "\n"))
    if not summary.conditions:
        grid.add_row(Text("No score to compare."))
    if has_divergence(summary):
        grid.add_row(divergence_table(summary))
    if summary.conditions:
        grid.add_row(_legend(summary))
    if (beside := _beside(summary)).plain:
        grid.add_row(beside)
    return grid


def _model_table(summary: Summary, model: str, between: str) -> Table:
    """`between` stands between an estimate and its interval."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(model, style="bold"),
        title_justify="left",
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column(f"task, {summary.noun}", overflow="fold")
    if summary.has_bits:
        table.add_column("bits/\nweight", justify="right", no_wrap=True)
    table.add_column("score\n(points)", justify="right", no_wrap=True)
    table.add_column(f"baseline\n- {summary.noun}", justify="right", no_wrap=True)
    table.add_column("p,\nHolm" if is_corrected(summary) else "p", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for task, count, rows in _rows(summary, model, between):
        table.add_row(Text.assemble((task, "bold"), (f"\n{count}", "dim")))
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table


def _model_lines(summary: Summary, model: str) -> Text:
    lines = [Text(model, style="bold")]
    for task, count, rows in _rows(summary, model, " "):
        lines += [Text(), Text.assemble((task, "bold"), (f", {count}", "dim"))]
        for quant, *bits, score, change, p, verdict in rows:
            lines.append(Text.assemble(quant, *(Text.assemble(", ", each, " bits") for each in bits), ": ", score))
            if change.plain not in ("", "-"):
                lines.append(Text.assemble("    ", change, ", p ", p))
            lines.append(Text.assemble("    ", verdict))
    return Text("\n").join(lines)


def _rows(summary: Summary, model: str, between: str) -> Iterator[tuple[str, str, list[list[Text]]]]:
    """Yield each task of a model, how many items it has, and its rows."""
    bits = ("bits",) if summary.has_bits else ()
    shown = choose(comparison_columns(summary), "quant", *bits, "score", "difference", "p_value", "reading")
    for task in summary.tasks(model):
        lines = list_lines(summary, model, task)
        count = f"n={range_text(line.condition.estimate.n for line in lines)}"
        rows = []
        for line in lines:
            quant, *cells, verdict = [_styled(column.read(line), between) for column in shown]
            verdict.style = _STYLES.get(verdict.plain.split()[0], "")
            rows.append([Text.assemble("  ", quant), *cells, verdict])
        yield task, count + ("" if summary.unit == "item" else f" {summary.unit}s"), rows
    if pools := [pool for pool in summary.pools if pool.model == model]:
        yield (
            f"pool of {len(pools[0].tasks)} tasks",
            WEIGHTINGS[pools[0].weighting],
            [_pool_row(summary, pool, between) for pool in pools],
        )


def _pool_row(summary: Summary, pool: Pooled, between: str) -> list[Text]:
    bits = [Text("")] if summary.has_bits else []
    cells = [_styled(points(pool.difference.quant_mean), between), _styled(difference_text(pool.difference), between)]
    said = reading(pool)
    verdict = Text(said, style=_STYLES.get(said.split()[0], ""))
    return [Text(f"  {pool.quant}"), *bits, *cells, Text(p_text(pool)), verdict]


_STYLES = {
    **{"the": "dim", "not": "yellow", "worse": "red"},
    **dict.fromkeys(("worse,", "better", "within"), "green"),
}
"""Of a verdict, by its first word."""


def _styled(cell: Cell, between: str) -> Text:
    """`between` stands between an estimate and its interval."""
    return Text(cell) if isinstance(cell, str) else Text.assemble(cell[0], between, (cell[1], "dim"))


def _legend(summary: Summary) -> Text:
    """Explain the table in short; the report has the rest."""
    words = [
        f"In points; positive: the baseline ({summary.baseline}) is better." if summary.comparisons else "In points."
    ]
    words.append(f"Brackets: {interval_names(summary)} intervals over {summary.unit}s.")
    if has_verdicts(summary):
        corrected = f"; p after Holm for {family_text(summary)}" if is_corrected(summary) else ""
        words.append(f"Margin: {margin_text(summary)}{corrected}. Inconclusive does not mean equal.")
    elif summary.comparisons:
        many = f" of the {len(summary.comparisons)}" if len(summary.comparisons) > 1 else ""
        words.append(f"Each p{many} stands alone, not corrected. Undecided does not mean equal.")
    lines = [" ".join(words)]
    if has_divergence(summary):
        lines.append(ranking(summary))
    if has_zero_width(summary):
        lines.append(f"* {ZERO_WIDTH_NOTE}.")
    return Text("\n".join(lines))


def _beside(summary: Summary) -> Text:
    """Return the answers to what was declared, and the few caveats that are read first."""
    lines = []
    if summary.registered is not None:
        lines += [f"Claim: {each.claim} - {answer_text(each)}" for each in summary.registered.answers]
        lines.append(declaration_text(summary.registered))
    lines += filter(None, [settling_line(summary)])
    return Text("\n".join([*lines, *list_first_caveats(summary)]))
