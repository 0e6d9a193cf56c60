"""Divergence beside accuracy: the section of the page, the table of the terminal, and the numbers as CSV."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from quantexp.comparison.summary import Condition, Divergence, Summary
from quantexp.report.columns import Column, DataTable, Grid, list_attributes, omit_nan
from quantexp.stats import Interval
from quantexp.stats.divergence import AT_MOST
from quantexp.stats.rank_agreement import FEWEST_RANKED


class Measured(NamedTuple):
    """A condition with its divergence."""

    condition: Condition
    divergence: Divergence


def list_measured(summary: Summary) -> Iterator[Measured]:
    """Yield the conditions with a divergence, task by task, from most to fewest bits."""
    for place in summary.places():
        for each in summary.ladder(*place):
            if (divergence := summary.find_divergence(each)) is not None:
                yield Measured(each, divergence)


def has_divergence(summary: Summary, model: str | None = None) -> bool:
    """Return whether it was measured anywhere, or for a model."""
    return any(model in (None, each.condition.model) for each in list_measured(summary))


def has_partings(summary: Summary, model: str) -> bool:
    """Return whether a model's answers were examined for where they leave the baseline's."""
    return any(each.divergence and each.divergence.answers for each in summary.comparisons if each.model == model)


def divergences_table(summary: Summary) -> DataTable[Measured]:
    """Return how far quants are from the baseline; probabilities and shares are fractions in files."""
    columns: list[Column[Measured]] = [
        Column("model", lambda row: row.condition.model),
        Column("task", lambda row: row.condition.task, "task", lambda row: summary.section(row.condition), "l"),
        Column("quant", lambda row: row.condition.quant, summary.noun, side="l"),
        Column(
            "tokens",
            lambda row: row.divergence.summary.tokens,
            "tokens",
            lambda row: f"{row.divergence.summary.tokens:,}",
        ),
        *list_attributes(lambda row: row.divergence.summary, "items", "confidence"),
        Column("mean", lambda row: row.divergence.summary.mean.value, "mean, nats", _mean),
        *_figure("mean")[1:],
        Column("left_out", lambda row: row.divergence.left_out, "left out, %", _left_out),
        Column("at_most", _at_most, "at most, nats", lambda row: _known(_at_most(row), 4)),
        *_figure("median", "median", lambda median: f"{median.value:.4f}"),
        *_figure("p90"),
        *_figure("p95"),
        *_figure("p99", "99%", lambda p99: f"{p99.value:.3f}"),
        *_figure("p999"),
        *_figure("probability_change"),
        *_figure(
            "probability_change_rms", "RMS change of probability, points", lambda rms: interval_text(rms, 1, 100.0)
        ),
        *_figure("probability_moved", "moved, points", lambda moved: interval_text(moved, 2, 100.0)),
        *_figure("same_top", "same top, %", lambda share: interval_text(share, 1, 100.0)),
        *_figure("log_perplexity_ratio", "ln perplexity ratio", lambda ratio: interval_text(ratio, 4)),
        Column(
            "maximum",
            lambda row: row.divergence.summary.maximum,
            "maximum",
            lambda row: f"{row.divergence.summary.maximum:.2f}",
        ),
        Column("answers", lambda row: row.divergence.answers),
        Column("parted", lambda row: len(row.divergence.parted), "answers that part", _parted),
        Column(
            "place", None, "at token", lambda row: f"{median(row.divergence.parted):g}" if row.divergence.parted else ""
        ),
    ]
    return DataTable(columns, list(list_measured(summary)))


def _figure(name: str, heading: str = "", text: Callable[[Interval], str] | None = None) -> list[Column[Measured]]:
    """Return the columns of a figure that has an interval; of what nobody knows files have nothing."""

    def end(place: str) -> Callable[[Measured], object]:
        def value(row: Measured) -> float | None:
            return omit_nan(getattr(getattr(row.divergence.summary, name), place))

        return value

    read = None if text is None else lambda row: text(getattr(row.divergence.summary, name))
    ends = [Column(f"{name}_{place}", end(place)) for place in ("low", "high")]
    return [Column(name, end("value"), heading, read), *ends]


def _mean(row: Measured) -> str:
    """Return the mean with its interval, marked if it is a lower bound."""
    mark = "" if row.divergence.left_out is None else "≥ "
    return mark + interval_text(row.divergence.summary.mean, 4)


def _reachable(divergence: Divergence) -> Interval:
    """Return the interval of the mean, up to what is left out at `AT_MOST` where it is a lower bound."""
    mean = divergence.summary.mean
    return Interval(mean.value, mean.low, mean.high + AT_MOST * (divergence.left_out or 0.0))


def _left_out(row: Measured) -> str:
    share = row.divergence.left_out
    return _known(None if share is None else 100 * share, 1)


def _at_most(row: Measured) -> float | None:
    """Return the mean with what is left out at `AT_MOST`; None where nothing is."""
    share = row.divergence.left_out
    return None if share is None else row.divergence.summary.mean.value + AT_MOST * share


def _known(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _parted(row: Measured) -> str:
    return f"{len(row.divergence.parted)} of {row.divergence.answers}" if row.divergence.answers else ""


def divergence_grid(summary: Summary) -> Grid:
    """Tabulate the divergence of each quant; no rows where it was not measured."""
    bounds = ("left_out", "at_most") if summary.has_bounds else ()
    shown = ("median", "p99", "maximum", "same_top", "probability_change_rms", "log_perplexity_ratio")
    return divergences_table(summary).show("task", "quant", "tokens", "mean", *bounds, *shown, "parted", "place")


def divergence_table(summary: Summary) -> Table:
    """For a terminal of 80 columns or more."""
    table = Table(box=box.SIMPLE_HEAD, title=Text("Divergence", style="bold"), title_justify="left", pad_edge=False)
    table.add_column(f"task, {summary.noun}", overflow="fold")
    for name in ("mean KL\n(nats)", "same top\n(%)", "answers\nthat part"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, quant, *cells in divergences_table(summary).show("task", "quant", "mean", "same_top", "parted").rows:
        table.add_row(Text(f"{task}, {quant}"), *map(Text, cells))
    return table


def ranking(summary: Summary) -> str:
    """Explain the use of divergence, and compare its order with the losses on each task with five quants or more.

    Fewer have too few orders for a correlation to mean anything: of three quants, one order in three is perfect, or
    perfectly wrong.
    """
    by_task: dict[str, list[tuple[float, float]]] = {}
    for each in summary.select_comparisons():
        if each.divergence is not None:
            both = each.divergence.summary.mean.value, each.difference.difference
            by_task.setdefault(summary.section(each), []).append(both)
    found = []
    for task, pairs in by_task.items():
        divergences, losses = [kl for kl, _ in pairs], [loss for _, loss in pairs]
        if len(pairs) >= FEWEST_RANKED and len(set(divergences)) > 1 and len(set(losses)) > 1:
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

    A quant comes "then" only if the interval of its mean divergence lies above those of all that are nearer. Where that
    is a lower bound, the interval ends where what is left out adds as much as it is taken to.
    """
    told = []
    for model in summary.models():
        tasks_of: dict[str, list[str]] = {}
        for task in summary.tasks(model):
            found = [(each.quant, summary.find_divergence(each)) for each in summary.ladder(model, task)]
            means = [(_reachable(of), quant) for quant, of in found if of is not None]
            if len(means) > 1:
                tasks_of.setdefault(_chain(means), []).append(task)
        parts = [f"{order}{_on(tasks, summary, model)}" for order, tasks in tasks_of.items()]
        if parts:
            of = f" of {model}" if len(summary.models()) > 1 else ""
            told.append(f"By divergence{of}, the nearest to {summary.divergence_base} first: {'; '.join(parts)}.")
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


def interval_text(interval: Interval, digits: int, scale: float = 1.0) -> str:
    """Return an estimate with its interval, or alone where it has none."""
    value, low, high = (f"{scale * each:.{digits}f}" for each in (interval.value, interval.low, interval.high))
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"
