"""The verdict of a whole comparison, in a sentence or two."""

from quantexp.report.summary import (
    Comparison,
    Summary,
    difference_text,
    margin_text,
    outcome,
    points,
    reading,
    signed_points,
)
from quantexp.stats import Verdict


def verdict_sentences(summary: Summary) -> list[str]:
    """What came out, then the comparison that matters most, then what is missing; without markup.

    One sentence to three: the last only where a job failed or a run could not be paired.
    """
    if not summary.comparisons:
        sentences = [f"Nothing was compared with the baseline {summary.baseline}."]
    else:
        sentences = [said] if (said := outcome(summary)) else []
        sentences.append(_foremost(summary))
    missing = [
        *([f"{len(summary.failures)} failed {_plural('job', summary.failures)}"] if summary.failures else []),
        *([f"{len(summary.refusals)} {_plural('run', summary.refusals)} not paired"] if summary.refusals else []),
    ]
    return [*sentences, *([f"Incomplete: {', '.join(missing)}."] if missing else [])]


def _foremost(summary: Summary) -> str:
    """The comparison that decides what a reader does next."""
    largest = max(summary.comparisons, key=lambda each: each.difference.difference)
    decided = [(each, each.decision) for each in summary.comparisons if each.decision is not None]
    if not decided:
        return f"The largest loss is {_where(summary, largest)}: {reading(largest)}."
    worse = [each for each, decision in decided if decision.verdict is Verdict.worse]
    if worse:
        largest = max(worse, key=lambda each: each.difference.difference)
        value, interval = difference_text(largest.difference)
        margin = margin_text(summary)
        return f"The largest loss is {_where(summary, largest)}: {value} points {interval}, with a margin of {margin}."
    open_ones = [
        (decision.further_items, each) for each, decision in decided if decision.verdict is Verdict.inconclusive
    ]
    if not open_ones:
        highest = max(summary.comparisons, key=lambda each: each.difference.upper)
        bound = highest.difference.upper
        most = f"at most {points(bound)} points" if bound > 0 else f"no loss above {signed_points(bound)} points"
        return f"The loss is {most} ({_where(summary, highest)}), with a margin of {margin_text(summary)}."
    countable = [(more, each) for more, each in open_ones if more is not None]
    if not countable:
        return "No number of further items is likely to tell."
    more, nearest = min(countable, key=lambda pair: pair[0])
    return f"The nearest to a verdict is {_where(summary, nearest)}, with about {more:,} more {_plural('item', more)}."


def _where(summary: Summary, comparison: Comparison) -> str:
    return f"{comparison.quant} on {summary.section(comparison)}"


def _plural(word: str, counted: int | tuple[str, ...]) -> str:
    count = counted if isinstance(counted, int) else len(counted)
    return word if count == 1 else f"{word}s"
