"""Tables and lists of the report, as plain text: terminal, markdown and HTML choose from the same columns, CSV has all.

Nothing here is escaped; each page does that in its own way.
"""

from collections.abc import Callable, Iterable
from math import isnan
from operator import attrgetter
from typing import NamedTuple

from quantexp.comparison.summary import FLOOR_COUNTS, Comparison, Condition, Summary
from quantexp.comparison.wording import (
    REPEATS,
    ZERO_WIDTH_NOTE,
    comparisons_text,
    difference_text,
    family_text,
    has_verdicts,
    has_zero_width,
    interval_names,
    is_corrected,
    margin_text,
    p_text,
    reading,
    score_text,
)
from quantexp.config.condition import WEIGHTS
from quantexp.report.columns import Cell, Column, DataTable, Grid, list_attributes, omit_nan
from quantexp.stats import E_VALUE
from quantexp.stats.divergence import AT_MOST

FLIPS_NOTE = (
    "Answers, not items: an item that several seeds ask has several. Lost and gained: the score fell or rose. Churn: "
    "another answer was read, whatever the scores."
)

POSTERIOR_NOTE = "Probability that the loss is below the margin, under a uniform prior on what can happen to an item:"


class Line(NamedTuple):
    """A condition, and its comparison with the baseline, if there is one."""

    condition: Condition
    comparison: Comparison | None


def list_lines(summary: Summary, model: str, task: str | None = None) -> list[Line]:
    """Return a model's or a task's conditions: task by task the baseline, then from most to fewest bits."""
    return [
        Line(condition, summary.comparison(condition))
        for name in (summary.tasks(model) if task is None else (task,))
        for condition in summary.ladder(model, name)
    ]


def comparison_columns(summary: Summary) -> list[Column[Line]]:
    """Return the columns of quants against the baseline; n counts what the last one says: items or answers."""

    def compared(
        key: str,
        value: Callable[[Comparison], object] | None,
        name: str = "",
        text: Callable[[Comparison], Cell] | None = None,
        *,
        absent: str = "-",
        baseline: str = "",
        side: str = "r",
    ) -> Column[Line]:
        """Return a column of what is known of comparisons only."""

        def read(line: Line) -> Cell:
            if line.comparison is None:
                return baseline if line.condition.quant == summary.baseline else absent
            return "" if text is None else text(line.comparison)

        held = None if value is None else lambda line: line.comparison and value(line.comparison)
        return Column(key, held, name, read, side)

    def figures(*names: str) -> list[Column[Line]]:
        """Return columns of files alone of figures of the difference, under their names."""
        return [compared(name, attrgetter(f"difference.{name}")) for name in names]

    level = interval_names(summary)
    return [
        Column("model", lambda line: line.condition.model),
        Column("task", lambda line: line.condition.task, "task", side="l"),
        compared("baseline", lambda c: c.baseline),
        Column("quant", lambda line: line.condition.quant, summary.noun, side="l"),
        Column("bits", None, "bits/weight", lambda line: bits_text(line.condition.bits_per_weight, 2)),
        Column("size", None, "file, MB", lambda line: megabytes(line.condition.file_bytes)),
        Column("speed", None, "tokens/s", lambda line: speed_text(line.condition.tokens_per_second, None)),
        Column("score", None, f"score, points [{level}]", lambda line: score_text(line.condition.estimate)),
        compared(
            "difference",
            lambda c: c.difference.difference,
            f"baseline - {summary.noun}, points [{level}]",
            lambda c: difference_text(c.difference),
        ),
        *figures("low", "high"),
        compared("p_value", lambda c: c.difference.p_value, "p, Holm" if is_corrected(summary) else "p", p_text),
        *figures("n", "changed"),
        compared("lost", lambda c: c.difference.lost, "lost", lambda c: _share(c.difference.lost, c)),
        compared("gained", lambda c: c.difference.gained, "gained", lambda c: _share(c.difference.gained, c)),
        *figures("answers", "design_effect"),
        compared("kind", lambda c: c.difference.kind.value),
        compared("interval", lambda c: c.difference.interval_method),
        compared("test", lambda c: c.difference.test_method),
        compared("upper", lambda c: c.difference.upper),
        compared("margin", lambda c: c.decision and c.decision.margin),
        compared("p_adjusted", lambda c: c.decision and c.decision.p_adjusted),
        compared("verdict", lambda c: c.decision and c.decision.verdict.value),
        compared("probability_within", lambda c: c.posterior and c.posterior.within),
        compared("further_items", lambda c: c.decision and c.decision.further_items),
        compared("further_least", lambda c: c.decision and c.decision.further and c.decision.further.least),
        compared("further_most", lambda c: c.decision and c.decision.further and c.decision.further.most),
        compared("fewest_items", lambda c: c.decision and c.decision.fewest_items),
        compared("at_ceiling", lambda c: c.decision and c.decision.at_ceiling),
        compared("answers_lost", lambda c: c.flips and c.flips.lost),
        compared("answers_gained", lambda c: c.flips and c.flips.gained),
        compared("both_wrong_different", lambda c: c.flips and c.flips.both_wrong_different),
        compared(
            "churn",
            lambda c: c.flips and c.flips.churn,
            "answer churn",
            lambda c: str(c.flips.churn) if c.flips else "-",
        ),
        compared(
            "divergence",
            None,
            "mean KL, nats",
            lambda c: f"{c.divergence.summary.mean.value:.4f}" if c.divergence else "-",
        ),
        *figures("zero_width", "baseline_mean", "baseline_low", "quant_mean", "confidence", "resamples"),
        compared("bootstrap_seed", lambda c: c.difference.seed),
        compared("reading", reading, "verdict", reading, absent="not compared", baseline="the baseline", side="l"),
        compared("unit", lambda _: summary.unit),
    ]


def _share(count: int, comparison: Comparison) -> Cell:
    return str(count), f"of {comparison.difference.n}"


def comparisons_table(summary: Summary) -> DataTable[Line]:
    """Return the comparisons as files have them, in the order of the conditions; scores are fractions."""
    lines = [Line(each, summary.comparison(each)) for each in summary.conditions]
    return DataTable(comparison_columns(summary), [line for line in lines if line.comparison is not None])


def comparisons_grid(summary: Summary, model: str) -> Grid:
    """Every quant of a model on every task."""
    bits = ("bits",) if summary.has_bits else ()
    shown = ("task", "quant", *bits, "score", "difference", "p_value", "lost", "gained", "reading")
    return DataTable(comparison_columns(summary), list_lines(summary, model)).show(*shown)


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
            rows.append((summary.section(each), _name_placebo(summary, each), *counts))
    header = ("task", summary.noun, "answers", "lost", "gained", "both wrong, but different", "answer churn")
    return Grid(header, "llrrrrr", tuple(rows))


def _name_placebo(summary: Summary, comparison: Comparison) -> str:
    """Name a condition, and say if what it changes is noise."""
    noise = " (placebo: noise of the arithmetic)" if summary.is_placebo(comparison) else ""
    return f"{comparison.quant}{noise}"


def rules_grid(summary: Summary) -> Grid:
    """Count the answers that each rule of the grader read; no rows where graders have but one way to read."""
    rules = list(dict.fromkeys(rule for c in summary.conditions for rule in c.rules))
    rows = [
        (summary.make_title(c.model, c.task), c.quant, *(str(c.rules.get(rule, 0)) for rule in rules))
        for c in summary.conditions
        if c.rules
    ]
    return Grid(("task", summary.noun, *rules), "ll" + "r" * len(rules), tuple(rows))


def conditions_table(summary: Summary) -> DataTable[Condition]:
    """Return how each score was made; n counts what the last column says: items or answers.

    Scores are fractions in files. A speed that was not measured is empty; several run ids are separated by a space.
    """
    columns: list[Column[Condition]] = [
        Column("model", lambda c: c.model, "model", side="l"),
        Column("task", lambda c: c.task, "task", side="l"),
        Column("quant", lambda c: c.quant, summary.noun, side="l"),
        Column(
            "bits_per_weight",
            lambda c: omit_nan(c.bits_per_weight),
            "bits/weight",
            lambda c: bits_text(c.bits_per_weight, 4),
        ),
        Column("file_bytes", lambda c: c.file_bytes, "file, MB", lambda c: megabytes(c.file_bytes)),
        *list_attributes(lambda c: c.estimate, "mean", "low", "high"),
        Column("n", lambda c: c.estimate.n, f"n ({summary.unit}s)"),
        Column("answers", lambda c: c.estimate.answers, "answers"),
        Column(
            "design_effect",
            lambda c: c.estimate.design_effect,
            "design effect",
            lambda c: f"{c.estimate.design_effect:.2f}",
        ),
        Column("kind", lambda c: c.estimate.kind.value),
        Column("interval", lambda c: c.estimate.interval_method),
        Column("zero_width", lambda c: c.estimate.zero_width),
        Column("items", lambda c: c.items),
        Column("repeats", lambda c: c.repeats),
        Column("grader", lambda c: c.grader, "grader", side="l"),
        Column(
            "tokens_per_second",
            lambda c: c.tokens_per_second,
            "tokens/s",
            lambda c: speed_text(c.tokens_per_second, c.speed_range),
        ),
        Column("tokens_per_second_low", lambda c: c.speed_range and c.speed_range[0]),
        Column("tokens_per_second_high", lambda c: c.speed_range and c.speed_range[1]),
        Column("share_of_others", lambda c: c.busy),
        *list_attributes(lambda c: c.estimate, "confidence", "resamples"),
        Column("bootstrap_seed", lambda c: c.estimate.seed),
        Column("run_ids", lambda c: " ".join(c.run_ids)),
        Column("unit", lambda _: summary.unit),
    ]
    return DataTable(columns, summary.conditions)


def conditions_grid(summary: Summary) -> Grid:
    """Tabulate how each score was made."""
    of_file, of_run = (("bits_per_weight", "file_bytes"), ("tokens_per_second",)) if summary.has_bits else ((), ())
    shown = ("model", "quant", "task", *of_file, "answers", "n", "design_effect", "grader", *of_run)
    return conditions_table(summary).show(*shown)


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


def bits_text(bits: float, decimals: int) -> str:
    """Return bits per weight; a dash where nobody has said them."""
    return "-" if isnan(bits) else f"{bits:.{decimals}f}"


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
        *_explain_conditions(summary),
        ("", f"Brackets hold the {level} interval over {summary.unit}s: {REPEATS[summary.unit]}."),
        ("", f"Lost: {summary.unit}s on which the baseline scores higher; gained: on which the quant does."),
    ]
    if has_verdicts(summary):
        lines += [
            (
                "Within margin",
                f"the one-sided {level} upper bound of the loss is below the margin ({margin_text(summary)}), and the "
                "baseline is shown to score more than that. This is a claim for each comparison alone"
                + (", but for tasks of a pool: see there." if summary.pools else "."),
            ),
            (
                "Worse",
                "the baseline is better, and significantly so at the level that the intervals leave"
                + (f", after Holm's correction for {family_text(summary)} of this report." if count > 1 else "."),
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


def _explain_conditions(summary: Summary) -> list[tuple[str, str]]:
    """Say what a condition that is called by its quant alone stands for."""
    shared: dict[str, dict[str, None]] = {}
    for each in summary.conditions:
        if each.quant == summary.baseline:
            for name, level in each.levels.items():
                shared.setdefault(name, {})[level] = None
    shared.pop(WEIGHTS, None)
    if not shared:
        return []
    told = "; ".join(f"{name}: {', '.join(levels)}" for name, levels in shared.items())
    return [("", f"A condition is called by its quant, and by each factor that is not as the baseline's ({told}).")]


def divergence_note(summary: Summary) -> str:
    """Explain the columns of the divergence table."""
    found = list(filter(None, map(summary.find_divergence, summary.conditions)))
    read = " and of ".join(dict.fromkeys(each.over for each in found))
    return (
        f"Over the tokens of {read}: KL({summary.divergence_base} || quant); how often both hold the same token "
        "likeliest; how the probability of the token that stands there changes. Brackets: intervals over items. An "
        "answer parts where the quant's own first differs from the baseline's."
        f"{_bounds_note(summary)}"
    )


def _bounds_note(summary: Summary) -> str:
    """Explain divergences that are bounds; empty if there are none."""
    if not summary.has_bounds:
        return ""
    return (
        " Of a server's model every divergence is a lower bound, from the likeliest tokens that it tells of; left out "
        "is the baseline's probability of the others. No upper bound is certain; the one shown holds if the "
        f"distributions of what is left out diverge by no more than {AT_MOST:g} nat."
    )


def _more_items(summary: Summary) -> str:
    """Explain the use of the number of further items."""
    if all(comparison.difference.test_method == E_VALUE for comparison in summary.comparisons):
        return "Raise task.limit and go on: e-values allow a look after every item."
    return (
        "They are the plan of a new study: adding items and testing again is a second look, which errs more often than "
        "one."
    )
