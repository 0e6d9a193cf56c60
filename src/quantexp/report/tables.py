"""Tables and lists of the report's pages, as plain text: the markdown page and the HTML page show the same.

Nothing here is escaped; each page does that in its own way.
"""

from collections.abc import Iterable

from quantexp.comparison.summary import (
    FLOOR_COUNTS,
    REPEATS,
    ZERO_WIDTH_NOTE,
    Condition,
    Summary,
    comparisons_text,
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
from quantexp.report.csv_tables import Grid
from quantexp.stats import E_VALUE

FLIPS_NOTE = (
    "Answers, not items: an item that several seeds ask has several. Lost and gained: the score fell or rose. Churn: "
    "another answer was read, whatever the scores."
)

POSTERIOR_NOTE = "Probability that the loss is below the margin, under a uniform prior on what can happen to an item:"


def comparisons_grid(summary: Summary, model: str) -> Grid:
    """Every quant of a model on every task."""
    level = interval_names(summary)
    scores = (f"score, points [{level}]", f"baseline - quant, points [{level}]", p_name(summary))
    header = ("task", "quant", "bits/weight", *scores, "lost", "gained", "verdict")
    conditions = [c for task in summary.tasks(model) for c in summary.ladder(model, task)]
    return Grid(header, "llrrrrrrl", tuple(_comparison(summary, c) for c in conditions))


def _comparison(summary: Summary, condition: Condition) -> tuple[str, ...]:
    comparison = summary.comparison(condition)
    score = " ".join(score_text(condition.estimate))
    cells = (condition.task, condition.quant, f"{condition.bits_per_weight:.2f}", score)
    if condition.quant == summary.baseline:
        return (*cells, "", "", "", "", "the baseline")
    if comparison is None:
        return (*cells, "-", "-", "-", "-", "not compared")
    d = comparison.difference
    counts = [f"{count} of {d.n}" for count in (d.lost, d.gained)]
    return (*cells, " ".join(difference_text(d)), p_text(comparison), *counts, reading(comparison))


def p_name(summary: Summary) -> str:
    """Name the p-values, by what they are corrected for."""
    return "p, Holm" if is_corrected(summary) else "p"


def posteriors(summary: Summary, model: str) -> list[tuple[str, str]]:
    """Return each comparison with its posterior probability, in words, if posteriors were asked for."""
    return [
        (f"{each.task}, {each.quant}", f"{each.posterior.within:.3f}")
        for each in summary.comparisons
        if each.model == model and each.posterior is not None
    ]


def flips_grid(summary: Summary) -> Grid:
    """Count the changed answers; no rows where the answers were not looked at."""
    rows = []
    for one in summary.conditions:
        if one.floor is not None:
            name = summary.make_title(one.model, one.task)
            counts = [str(one.floor[key]) for key in FLOOR_COUNTS]
            rows.append((name, f"{one.quant}, a second time (noise of the engine)", *counts))
    for each in summary.select_comparisons():
        if each.flips is not None:
            counts = [str(getattr(each.flips, key)) for key in FLOOR_COUNTS]
            rows.append((summary.section(each), each.quant, *counts))
    header = ("task", "quant", "answers", "lost", "gained", "both wrong, but different", "answer churn")
    return Grid(header, "llrrrrr", tuple(rows))


def rules_grid(summary: Summary) -> Grid:
    """Count the answers that each rule of the grader read; no rows where graders have but one way to read."""
    rules = list(dict.fromkeys(rule for c in summary.conditions for rule in c.rules))
    rows = [
        (summary.make_title(c.model, c.task), c.quant, *(str(c.rules.get(rule, 0)) for rule in rules))
        for c in summary.conditions
        if c.rules
    ]
    return Grid(("task", "quant", *rules), "ll" + "r" * len(rules), tuple(rows))


def conditions_grid(summary: Summary) -> Grid:
    """Tabulate how each score was made."""
    counts = ("answers", f"n ({summary.unit}s)", "design effect")
    header = ("model", "quant", "task", "bits/weight", "file, MB", *counts, "grader", "tokens/s")
    return Grid(
        header,
        "lllrrrrrlr",
        tuple(
            (
                *(c.model, c.quant, c.task, f"{c.bits_per_weight:.4f}", megabytes(c.file_bytes)),
                *(str(c.estimate.answers), str(c.estimate.n), f"{c.estimate.design_effect:.2f}", c.grader),
                speed_text(c.tokens_per_second, c.speed_range),
            )
            for c in summary.conditions
        ),
    )


def range_text(sizes: Iterable[int], between: str = "-") -> str:
    """Return the smallest and the largest of some numbers, or one where they are the same; empty if there is none."""
    found = sorted(set(sizes))
    return between.join(map(str, dict.fromkeys([*found[:1], *found[-1:]])))


def pairing_text(summary: Summary) -> str:
    """Write the sentence for reports in which no run was refused."""
    count = len(summary.comparisons)
    if not count:
        return "Nothing was compared, and nothing refused."
    return f"None was refused: {'both' if count == 1 else 'the'} runs of {comparisons_text(summary)} fit each other."


def speed_text(speed: float | None, spread: tuple[float, float] | None) -> str:
    """Tokens a second with their 10th and 90th percentile, as far as they were measured."""
    if speed is None:
        return "-"
    return f"{speed:,.1f}" + ("" if spread is None else f" [{spread[0]:,.1f}, {spread[1]:,.1f}]")


def megabytes(size: int | None) -> str:
    """Return a file's size in units of 10^6 bytes, to one decimal; a dash where only a server has the file."""
    return "-" if size is None else f"{size / 1e6:,.1f}"


def how_to_read(summary: Summary) -> list[tuple[str, str]]:
    """Explain the tables: a term, or none, and its meaning."""
    level = interval_names(summary)
    count = len(summary.comparisons)
    lines = [
        ("", "Scores and differences are in points: the score from 0 to 1, times 100."),
        (
            "",
            f"A difference is the baseline ({summary.baseline}) minus the quant on the same items: positive means the "
            "baseline is better.",
        ),
        ("", f"Brackets hold the {level} interval over {summary.unit}s: {REPEATS[summary.unit]}."),
        ("", f"Lost: {summary.unit}s on which the baseline scores higher; gained: on which the quant does."),
    ]
    if has_verdicts(summary):
        lines += [
            (
                "Within margin",
                f"the one-sided {level} upper bound of the loss is below the margin ({margin_text(summary)}), and the "
                "baseline is shown to score more than that. This is a claim for each comparison alone.",
            ),
            (
                "Worse",
                "the baseline is better, and significantly so at the level that the intervals leave"
                + (f", after Holm's correction for {comparisons_text(summary)} of this report." if count > 1 else "."),
            ),
            ("Worse, but within margin", "both; the loss is real, and too small to matter."),
            (
                "Inconclusive",
                "neither. That is not evidence that the quant is as good as the baseline; the interval says how much "
                "worse it may be. The further items are what would give a verdict with 80% probability if the "
                "difference and its spread are those seen here; in brackets, if they are within a standard error of "
                f"those. {_more_items(summary)}",
            ),
            (
                "Nothing to lose",
                "the baseline itself scored no more than the margin on these items: a larger loss could not be seen. "
                "Worked examples, an easier task or a larger model would tell.",
            ),
        ]
    else:
        lines += [
            (
                "",
                "p is two-sided and stands for its comparison alone. It is not corrected for the number of comparisons"
                + (f", here {count}" if count else "")
                + ": with 20 comparisons and no true difference, about one is expected below 0.05.",
            ),
            (
                "Undecided",
                "the interval holds 0: the data allow no difference at all. They do not show that the quant is as good "
                "as the baseline; the interval says how much worse it may be.",
            ),
        ]
    if has_zero_width(summary):
        lines.append(("*", f"{ZERO_WIDTH_NOTE}."))
    return lines


def divergence_note(summary: Summary) -> str:
    """Explain the columns of the divergence table."""
    read = " and of ".join(dict.fromkeys(each.divergence.over for each in summary.comparisons if each.divergence))
    return (
        f"Over the tokens of {read}: KL({summary.baseline} || quant); how often both hold the same token likeliest; "
        "how the probability of the token that stands there changes. Brackets: intervals over items. An answer parts "
        "where the quant's own first differs from the baseline's."
    )


def _more_items(summary: Summary) -> str:
    """Explain the use of the number of further items."""
    if all(comparison.difference.test_method == E_VALUE for comparison in summary.comparisons):
        return "Raise task.limit and go on: e-values allow a look after every item."
    return (
        "They are the plan of a new study: adding items and testing again is a second look, which errs more often than "
        "one."
    )
