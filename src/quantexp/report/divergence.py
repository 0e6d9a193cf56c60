"""Divergence beside accuracy: the section of the page, the table of the terminal, and the numbers as CSV."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from quantexp.comparison.summary import Comparison, Divergence, Summary
from quantexp.report.csv_tables import format_csv
from quantexp.stats import Interval

_Row = tuple[Comparison, Divergence]

HEADER = (
    "task", "quant", "tokens", "mean, nats", "median", "99%", "maximum", "same top, %",
    "RMS change of probability, points", "ln perplexity ratio", "answers that part", "at token",
)  # fmt: skip


_FEWEST_RANKED = 5
"""Quants whose order can be shown not to be chance: two of their 120 orders are perfect or perfectly wrong."""


def _measured(summary: Summary) -> Iterator[_Row]:
    """Yield the comparisons with a divergence, task by task, from most to fewest bits."""
    for each in summary.select_comparisons():
        if each.divergence is not None:
            yield each, each.divergence


def has_divergence(summary: Summary, model: str | None = None) -> bool:
    """Return whether it was measured anywhere, or for a model."""
    return any(each.divergence is not None for each in summary.comparisons if model in (None, each.model))


def has_partings(summary: Summary, model: str) -> bool:
    """Return whether a model's answers were examined for where they leave the baseline's."""
    return any(each.divergence and each.divergence.answers for each in summary.comparisons if each.model == model)


def divergence_rows(summary: Summary) -> Iterator[list[str]]:
    """Yield the cells of each comparison that has one, under `HEADER`."""
    for each, divergence in _measured(summary):
        found = divergence.summary
        yield [
            summary.section(each),
            each.quant,
            f"{found.tokens:,}",
            interval_text(found.mean, 4),
            f"{found.median.value:.4f}",
            f"{found.p99.value:.3f}",
            f"{found.maximum:.2f}",
            interval_text(found.same_top, 1, 100.0),
            interval_text(found.probability_change_rms, 1, 100.0),
            interval_text(found.log_perplexity_ratio, 4),
            _parted(divergence),
            f"{median(divergence.parted):g}" if divergence.parted else "",
        ]


def divergence_table(summary: Summary) -> Table:
    """For a terminal of 80 columns or more."""
    table = Table(box=box.SIMPLE_HEAD, title=Text("Divergence", style="bold"), title_justify="left", pad_edge=False)
    table.add_column("task, quant", overflow="fold")
    for name in ("mean KL\n(nats)", "same top\n(%)", "answers\nthat part"):
        table.add_column(name, justify="right", no_wrap=True)
    for each, divergence in _measured(summary):
        table.add_row(
            Text(f"{summary.section(each)}, {each.quant}"),
            Text(interval_text(divergence.summary.mean, 4)),
            Text(interval_text(divergence.summary.same_top, 1, 100.0)),
            Text(_parted(divergence)),
        )
    return table


def ranking(summary: Summary) -> str:
    """Explain the use of divergence, and compare its order with the losses on each task with five quants or more.

    Fewer have too few orders for a correlation to mean anything: of three quants, one order in three is perfect, or
    perfectly wrong.
    """
    by_task: dict[str, list[tuple[float, float]]] = {}
    for each, divergence in _measured(summary):
        both = divergence.summary.mean.value, each.difference.difference
        by_task.setdefault(summary.section(each), []).append(both)
    found = []
    for task, pairs in by_task.items():
        divergences, losses = [kl for kl, _ in pairs], [loss for _, loss in pairs]
        if len(pairs) >= _FEWEST_RANKED and len(set(divergences)) > 1 and len(set(losses)) > 1:
            found.append(f"{task} {_correlation_text(divergences, losses)}")
    said = "Divergence ranks quants; whether one is worse is for the scores to say."
    for model, source in summary.quantized_sources.items():
        if has_divergence(summary, model):
            said += (
                f" Of {model} the order is an artefact: its quants were made from a file that is itself quantized "
                f"({source}), and each is near to or far from that file's own rounding."
            )
    about = "Rank correlation of divergence and loss (Spearman, permutation p)"
    return said + (f" {about}: {', '.join(found)}." if found else "")


def _correlation_text(divergences: Sequence[float], losses: Sequence[float]) -> str:
    """Return Spearman's correlation with its p, which is exact up to seven quants and else of 9,999 drawn orders."""
    from scipy.stats import permutation_test, rankdata  # takes a second to load

    ours, theirs = (rankdata(each) - (len(each) + 1) / 2 for each in (divergences, losses))
    size = math.sqrt((ours @ ours) * (theirs @ theirs))

    def correlate(ordered: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray((ordered * theirs).sum(axis=axis) / size)

    test = permutation_test((ours,), correlate, permutation_type="pairings", vectorized=True, rng=0)
    return f"{test.statistic:+.2f} (of {len(losses)}, p {test.pvalue:.3f})"


def order_text(summary: Summary) -> str:
    """Order the quants from the nearest to the baseline on, one sentence per model; empty if nothing was measured.

    A quant comes "then" only if the interval of its mean divergence lies above those of all that are nearer.
    """
    told = []
    for model in summary.models():
        tasks_of: dict[str, list[str]] = {}
        for task in summary.tasks(model):
            means = [
                (c.divergence.summary.mean, c.quant) for c in summary.select_comparisons(model, task) if c.divergence
            ]
            if len(means) > 1:
                tasks_of.setdefault(_chain(means), []).append(task)
        parts = [f"{order}{_on(tasks, summary, model)}" for order, tasks in tasks_of.items()]
        if parts:
            of = f" of {model}" if len(summary.models()) > 1 else ""
            told.append(f"By divergence{of}, the nearest to {summary.baseline} first: {'; '.join(parts)}.")
    return " ".join(told)


def _chain(means: Sequence[tuple[Interval, str]]) -> str:
    ranked = sorted(means, key=lambda each: each[0].value)
    words, reach = ranked[0][1], _reach(ranked[0][0])
    for mean, quant in ranked[1:]:
        words += f", then {quant}" if reach < mean.low else f" or {quant}"
        reach = max(reach, _reach(mean))
    return words


def _reach(mean: Interval) -> float:
    """Return the upper end of an interval, which may be anywhere where there is none."""
    return math.inf if math.isnan(mean.high) else mean.high


def _on(tasks: Sequence[str], summary: Summary, model: str) -> str:
    everywhere = len(tasks) == len(summary.tasks(model)) and len(tasks) > 1
    return " on every task" if everywhere else f" on {', '.join(tasks)}"


def divergence_csv(summary: Summary) -> str:
    """Every figure with its interval, at full precision; probabilities and shares as fractions."""
    columns = dict(_COLUMNS)
    for figure in _FIGURES:
        for end, place in {"": "value", "_low": "low", "_high": "high"}.items():
            columns[figure + end] = partial(_end, figure=figure, place=place)
    return format_csv(columns | _LAST_COLUMNS, _measured(summary))


def _end(row: _Row, *, figure: str, place: str) -> object:
    value = getattr(getattr(row[1].summary, figure), place)
    return None if math.isnan(value) else value


_Column = Callable[[_Row], object]

_COLUMNS: dict[str, _Column] = {
    "model": lambda row: row[0].model,
    "task": lambda row: row[0].task,
    "quant": lambda row: row[0].quant,
    "tokens": lambda row: row[1].summary.tokens,
    "items": lambda row: row[1].summary.items,
    "confidence": lambda row: row[1].summary.confidence,
}

_FIGURES = (
    "mean", "median", "p90", "p95", "p99", "p999", "probability_change", "probability_change_rms", "same_top",
    "log_perplexity_ratio",
)  # fmt: skip
"""Those that have an interval."""

_LAST_COLUMNS: dict[str, _Column] = {
    "maximum": lambda row: row[1].summary.maximum,
    "answers": lambda row: row[1].answers,
    "parted": lambda row: len(row[1].parted),
}


def _parted(divergence: Divergence) -> str:
    return f"{len(divergence.parted)} of {divergence.answers}" if divergence.answers else ""


def interval_text(interval: Interval, digits: int, scale: float = 1.0) -> str:
    """Return an estimate with its interval, or alone where it has none."""
    value, low, high = (f"{scale * each:.{digits}f}" for each in (interval.value, interval.low, interval.high))
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"
