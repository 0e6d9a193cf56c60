"""Words for what a summary holds: scores, differences and verdicts, in points."""

import re

from quantexp.comparison.summary import Answer, Comparison, Pooled, Registered, Summary
from quantexp.stats import FEW_CHANGED, Decision, Estimate, HeldBack, PairedComparison, Verdict

REPEATS = {
    "item": "an item answered under several seeds counts once, with its mean score",
    "answer": "each answer counted as independent, even where several seeds ask the same item",
}
"""How several answers to one item count, by the unit that is counted and resampled."""


def reading(comparison: Comparison | Pooled) -> str:
    """Put a comparison into words, in points: its verdict, or where there is none, its interval alone.

    Failing to see a difference is never read as evidence that there is none.
    """
    difference, decision = comparison.difference, comparison.decision
    if decision is None:
        return _interval_reading(difference)
    bound = f"at most {points(difference.upper)} worse" if difference.upper > 0 else "not worse at all"
    match decision.verdict:
        case Verdict.within_margin:
            return f"within margin: {bound}"
        case Verdict.worse_within_margin:
            return f"worse, but within margin: {bound}"
        case Verdict.worse:
            return f"worse by {points(max(difference.low, 0.0))} to {points(difference.high)} points"
        case Verdict.nothing_to_lose:
            return f"nothing to lose: the baseline scored {points(difference.baseline_mean)} on these items"
        case Verdict.inconclusive if decision.held_back is not None:
            return f"inconclusive: alone {bound}, but {_HELD_BACK[decision.held_back]}"
        case Verdict.inconclusive if isinstance(comparison, Pooled):
            return f"inconclusive: {_range_text(difference)}"
        case Verdict.inconclusive:
            return f"inconclusive: {_missing(difference, decision)}"


_HELD_BACK = {
    HeldBack.pool: "the pool, which comes first, is not within its margin",
    HeldBack.tasks: "not after Holm's correction for the tasks of its pool",
}


def _missing(difference: PairedComparison, decision: Decision) -> str:
    """Return what an inconclusive comparison lacks, with no number if too little was seen for one."""
    further = decision.further
    if has_too_few_items(difference, decision):
        return (
            f"{difference.n:,} items can show the margin only if more is gained than lost, "
            f"{decision.fewest_items:,} might otherwise"
        )
    if further is None:
        return "no number of items is likely to tell"
    if difference.changed < FEW_CHANGED:
        return f"only {difference.changed} of {difference.n:,} items changed, too few to say how many more would tell"
    least, expected = (round_items(each) for each in (further.least, further.expected))
    most = "or far more" if further.most is None else f"to {round_items(further.most)}"
    return f"about {expected} more items to tell ({least} {most})"


def has_too_few_items(difference: PairedComparison, decision: Decision) -> bool:
    """Tell if so few items show the margin only where more is gained than lost, and the drop is not beyond it."""
    fewest = decision.fewest_items
    return fewest is not None and fewest > difference.n and difference.difference < decision.margin


def round_items(count: int) -> str:
    """Return a number of items as far as a plan knows it: to two digits."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"


def _interval_reading(difference: PairedComparison) -> str:
    n = difference.n
    if difference.changed == 0:
        return f"no item changed score (n={n}): the bootstrap can't bound it"
    if difference.zero_width:
        return f"all resamples agree (n={n}): the bootstrap can't bound it"
    low, high = difference.low, difference.high
    if low > 0:
        return f"worse by {points(low)} to {points(high)} points"
    if high < 0:
        return f"better by {points(-high)} to {points(-low)} points"
    return f"undecided: {_range_text(difference)}"


def _range_text(difference: PairedComparison) -> str:
    """Return the ends of an interval in words."""
    ends = (difference.low, difference.high)
    best, worst = (
        "no change" if end == 0 else f"{points(abs(end))} {'worse' if end > 0 else 'better'}" for end in ends
    )
    return f"from {best} to {worst}"


def points(fraction: float) -> str:
    """Return a size in points to one decimal; what would round to nothing reads `<0.1`."""
    size = 100.0 * fraction
    return "<0.1" if 0 < size < 0.05 else f"{size:.1f}"


def given_points(fraction: float) -> str:
    """Write a given size in points, with more than one decimal only where it was given with more."""
    text = f"{100 * fraction:.1f}"
    return text if abs(float(text) - 100 * fraction) < 1e-9 else f"{100 * fraction:.6g}"


def format_points(fraction: float) -> str:
    """Return a difference in points to one decimal, always with its sign; exactly or nearly 0 is `0.0`."""
    text = f"{100.0 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def score_text(estimate: Estimate) -> tuple[str, str]:
    """Return a score and its interval in points, such as `("48.7", "[44.7, 52.7]")`."""
    mark = "*" if estimate.zero_width else ""
    low, high = 100.0 * estimate.low, 100.0 * estimate.high
    return f"{100.0 * estimate.mean:.1f}", f"[{low:.1f}, {high:.1f}]{mark}"


def difference_text(difference: PairedComparison) -> tuple[str, str]:
    """Return a difference and its interval in points, such as `("+3.2", "[+0.8, +5.7]")`."""
    mark = "*" if difference.zero_width else ""
    return format_points(difference.difference), f"{format_range(difference.low, difference.high)}{mark}"


def format_range(low: float, high: float) -> str:
    """Return an interval of differences in points, such as `[+0.8, +5.7]`."""
    return f"[{format_points(low)}, {format_points(high)}]"


def p_text(comparison: Comparison | Pooled) -> str:
    """Return the p-value, after Holm's correction where there is a verdict; `-` when the interval has no width.

    A bootstrap of B resamples cannot tell less than 2 / B from 0.
    """
    difference, decision = comparison.difference, comparison.decision
    if difference.zero_width:
        return "-"
    if decision is None:
        return format_p(difference.p_value, 2.0 / difference.resamples)
    return format_p(decision.p_adjusted)


def format_p(p: float, smallest: float = 1e-4) -> str:
    """Return a p-value; what is below the smallest that can be told apart from 0 reads `<0.0001`."""
    if p < smallest:
        return f"<{smallest:.1g}" if smallest < 1e-4 else f"<{smallest:.4f}".rstrip("0")
    return f"{p:.3f}" if p >= 0.01 else f"{p:.4f}"


def declaration_text(registered: Registered) -> str:
    """Write the time of the declaration, in a sentence."""
    made = registered.declaration
    commit = f", commit {made.commit[:12]}" if re.fullmatch("[0-9a-f]{12,}", made.commit) else ""  # not of a wheel
    when = f"{made.time[:19].replace('T', ' ')} UTC (sha256 {made.sha256[:12]}{commit})"
    there = [f"{made.late} of its jobs had finished"] if made.late else []
    there += [f"{registered.earlier} of {registered.total} answers existed"] if registered.earlier else []
    if there:
        return f"Declared on {when}, when {' and '.join(there)} already: not a pre-registration."
    return f"Declared before the first answer, on {when}."


def answer_text(answer: Answer) -> str:
    """Return the answer to a claim with its numbers, such as `undecided: +1.2 [-2.2, +4.5], p 0.530`."""
    if answer.contrast is None:
        return f"{answer.answer}: {answer.reason}"
    interval = format_range(answer.contrast.low, answer.contrast.high)
    return f"{answer.answer}: {format_points(answer.contrast.estimate)} {interval}, p {answer.p_adjusted:.3f}"


def comparisons_text(summary: Summary) -> str:
    """Words for all comparisons of a summary, such as `all 9 comparisons`."""
    count = len(summary.comparisons)
    return "the one comparison" if count == 1 else f"all {count} comparisons"


def family_text(summary: Summary) -> str:
    """Words for all that p-values are corrected for, such as `all 9 comparisons and 3 pools`."""
    count = len(summary.pools)
    pools = "" if not count else f" and {'the pool' if count == 1 else f'{count} pools'}"
    return f"{comparisons_text(summary)}{pools}"


def is_corrected(summary: Summary) -> bool:
    """Return whether p-values are corrected for the number of comparisons."""
    return has_verdicts(summary) and len(summary.comparisons) > 1


def has_verdicts(summary: Summary) -> bool:
    """Return whether the comparisons were decided."""
    return any(c.decision is not None for c in summary.comparisons)


def margin_text(summary: Summary) -> str:
    """Return the margins of the summary's verdicts, such as `2.0 points`."""
    margins = {c.task: c.decision.margin for c in summary.comparisons if c.decision is not None}
    if len(set(margins.values())) == 1:
        return f"{given_points(next(iter(margins.values())))} points"
    return ", ".join(f"{given_points(margin)} points on {task}" for task, margin in margins.items())


def interval_names(summary: Summary) -> str:
    """Return the nominal coverage the summary's intervals have, such as `95%`."""
    levels = {c.estimate.confidence for c in summary.conditions}
    levels |= {c.difference.confidence for c in summary.comparisons}
    return " and ".join(f"{100 * level:.4g}%" for level in sorted(levels)) or "95%"


def has_zero_width(summary: Summary) -> bool:
    """Return whether any interval in the summary is a single point."""
    return any(c.estimate.zero_width for c in summary.conditions) or any(
        c.difference.zero_width for c in summary.comparisons
    )


ZERO_WIDTH_NOTE = (
    "an interval without width: every resample gave the same value, so the bootstrap "
    "cannot bound the uncertainty; it is not evidence of equality"
)
"""What the mark `*` after an interval means."""
