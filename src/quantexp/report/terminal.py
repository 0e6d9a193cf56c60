"""The comparison as a terminal table, and the full-precision numbers as CSV."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantexp.comparison.summary import (
    ZERO_WIDTH_NOTE,
    Comparison,
    Condition,
    Summary,
    answer_text,
    comparisons_text,
    declaration_text,
    difference_text,
    has_verdicts,
    has_zero_width,
    interval_names,
    is_corrected,
    margin_text,
    p_text,
    reading,
    score_text,
)
from quantexp.report.caveats import format_more, select_caveats
from quantexp.report.conclusions import sentences
from quantexp.report.csv_tables import format_csv
from quantexp.report.divergence import divergence_table, has_divergence, ranking
from quantexp.report.settling import settling_line
from quantexp.report.tables import range_text

NARROW, WIDE = 72, 110
"""Columns below which a quant takes lines of its own instead of a row, and from which a row is a single line."""


def show(summary: Summary, report: Path, browse: str, page: str | None = None) -> None:
    """Print the verdict, then the table with its caveats, and last where the report is and how to browse.

    On a terminal the verdict is wrapped, and the path opens the report; a path or a command, which is copied, is never
    wrapped, and elsewhere nothing is.

    Args:
        summary: the comparison.
        report: the page.
        browse: the command that opens MLflow.
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
    console.print(Text(f"browse  {browse}"), soft_wrap=True)
    if page is not None:
        console.print(Text(f"        {page}"), soft_wrap=True)


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


def comparisons_csv(summary: Summary) -> str:
    """Comparisons as CSV with a header; scores are fractions, floats have full precision.

    The last column says what n counts: item or answer.
    """
    return format_csv(_COMPARISON_COLUMNS | {"unit": lambda _: summary.unit}, summary.comparisons)


def conditions_csv(summary: Summary) -> str:
    """Conditions as CSV with a header; scores are fractions, floats have full precision.

    A speed that was not measured is empty; several run ids are separated by a space. The last column says what n
    counts: item or answer.
    """
    return format_csv(_CONDITION_COLUMNS | {"unit": lambda _: summary.unit}, summary.conditions)


_COMPARISON_COLUMNS: dict[str, Callable[[Comparison], object]] = {
    "model": lambda c: c.model,
    "task": lambda c: c.task,
    "baseline": lambda c: c.baseline,
    "quant": lambda c: c.quant,
    "difference": lambda c: c.difference.difference,
    "low": lambda c: c.difference.low,
    "high": lambda c: c.difference.high,
    "p_value": lambda c: c.difference.p_value,
    "n": lambda c: c.difference.n,
    "changed": lambda c: c.difference.changed,
    "lost": lambda c: c.difference.lost,
    "gained": lambda c: c.difference.gained,
    "answers": lambda c: c.difference.answers,
    "design_effect": lambda c: c.difference.design_effect,
    "kind": lambda c: c.difference.kind.value,
    "interval": lambda c: c.difference.interval_method,
    "test": lambda c: c.difference.test_method,
    "upper": lambda c: c.difference.upper,
    "margin": lambda c: c.decision and c.decision.margin,
    "p_adjusted": lambda c: c.decision and c.decision.p_adjusted,
    "verdict": lambda c: c.decision and c.decision.verdict.value,
    "probability_within": lambda c: c.posterior and c.posterior.within,
    "further_items": lambda c: c.decision and c.decision.further_items,
    "further_least": lambda c: c.decision and c.decision.further and c.decision.further.least,
    "further_most": lambda c: c.decision and c.decision.further and c.decision.further.most,
    "fewest_items": lambda c: c.decision and c.decision.fewest_items,
    "at_ceiling": lambda c: c.decision and c.decision.at_ceiling,
    "answers_lost": lambda c: c.flips and c.flips.lost,
    "answers_gained": lambda c: c.flips and c.flips.gained,
    "both_wrong_different": lambda c: c.flips and c.flips.both_wrong_different,
    "churn": lambda c: c.flips and c.flips.churn,
    "zero_width": lambda c: c.difference.zero_width,
    "baseline_mean": lambda c: c.difference.baseline_mean,
    "baseline_low": lambda c: c.difference.baseline_low,
    "quant_mean": lambda c: c.difference.quant_mean,
    "confidence": lambda c: c.difference.confidence,
    "resamples": lambda c: c.difference.resamples,
    "bootstrap_seed": lambda c: c.difference.seed,
    "reading": reading,
}

_CONDITION_COLUMNS: dict[str, Callable[[Condition], object]] = {
    "model": lambda c: c.model,
    "task": lambda c: c.task,
    "quant": lambda c: c.quant,
    "bits_per_weight": lambda c: c.bits_per_weight,
    "file_bytes": lambda c: c.file_bytes,
    "mean": lambda c: c.estimate.mean,
    "low": lambda c: c.estimate.low,
    "high": lambda c: c.estimate.high,
    "n": lambda c: c.estimate.n,
    "answers": lambda c: c.estimate.answers,
    "design_effect": lambda c: c.estimate.design_effect,
    "kind": lambda c: c.estimate.kind.value,
    "interval": lambda c: c.estimate.interval_method,
    "zero_width": lambda c: c.estimate.zero_width,
    "items": lambda c: c.items,
    "repeats": lambda c: c.repeats,
    "grader": lambda c: c.grader,
    "tokens_per_second": lambda c: c.tokens_per_second,
    "tokens_per_second_low": lambda c: c.speed_range and c.speed_range[0],
    "tokens_per_second_high": lambda c: c.speed_range and c.speed_range[1],
    "share_of_others": lambda c: c.busy,
    "confidence": lambda c: c.estimate.confidence,
    "resamples": lambda c: c.estimate.resamples,
    "bootstrap_seed": lambda c: c.estimate.seed,
    "run_ids": lambda c: " ".join(c.run_ids),
}


def _model_table(summary: Summary, model: str, between: str) -> Table:
    """`between` stands between an estimate and its interval."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(model, style="bold"),
        title_justify="left",
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("task, quant", overflow="fold")
    table.add_column("bits/\nweight", justify="right", no_wrap=True)
    table.add_column("score\n(points)", justify="right", no_wrap=True)
    table.add_column("baseline\n- quant", justify="right", no_wrap=True)
    table.add_column("p,\nHolm" if is_corrected(summary) else "p", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for task in summary.tasks(model):
        ladder = summary.ladder(model, task)
        table.add_row(Text.assemble((task, "bold"), (f"\n{_count(summary, ladder)}", "dim")))
        for condition in ladder:
            table.add_row(*_cells(summary, condition, between))
        table.add_section()
    return table


def _model_lines(summary: Summary, model: str) -> Text:
    lines = [Text(model, style="bold")]
    for task in summary.tasks(model):
        ladder = summary.ladder(model, task)
        lines += [Text(), Text.assemble((task, "bold"), (f", {_count(summary, ladder)}", "dim"))]
        for condition in ladder:
            quant, bits, score, change, p, verdict = _cells(summary, condition, " ")
            lines.append(Text.assemble(quant, ", ", bits, " bits: ", score))
            if summary.comparison(condition) is not None:
                lines.append(Text.assemble("    ", change, ", p ", p))
            lines.append(Text.assemble("    ", verdict))
    return Text("\n").join(lines)


def _count(summary: Summary, ladder: Sequence[Condition]) -> str:
    count = range_text(c.estimate.n for c in ladder)
    return f"n={count}" + ("" if summary.unit == "item" else f" {summary.unit}s")


def _cells(summary: Summary, condition: Condition, between: str) -> list[Text]:
    comparison = summary.comparison(condition)
    quant = Text("  " + condition.quant)
    if condition.quant == summary.baseline:
        verdict, p = Text("the baseline", style="dim"), Text()
        change = Text()
    elif comparison is None:
        verdict, p, change = Text("not compared", style="yellow"), Text("-"), Text("-")
    else:
        words = reading(comparison)
        style = {"worse": "red", "worse,": "green", "better": "green", "within": "green"}.get(words.split()[0], "")
        verdict, p = Text(words, style=style), Text(p_text(comparison))
        change = _joined(difference_text(comparison.difference), between)
    bits = Text(f"{condition.bits_per_weight:.2f}")
    return [quant, bits, _joined(score_text(condition.estimate), between), change, p, verdict]


def _joined(value_and_interval: tuple[str, str], between: str) -> Text:
    value, interval = value_and_interval
    return Text.assemble(value, between, (interval, "dim"))


def _legend(summary: Summary) -> Text:
    """Explain the table in short; the report has the rest."""
    words = [
        f"In points; positive: the baseline ({summary.baseline}) is better." if summary.comparisons else "In points."
    ]
    words.append(f"Brackets: {interval_names(summary)} intervals over {summary.unit}s.")
    if has_verdicts(summary):
        corrected = f"; p after Holm for {comparisons_text(summary)}" if is_corrected(summary) else ""
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
    caveats, more = select_caveats(summary)
    return Text("\n".join([*lines, *caveats, *([format_more(more)] if more else [])]))
