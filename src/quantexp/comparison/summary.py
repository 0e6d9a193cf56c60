"""Summary of a finished comparison: the facts that reports show, and how a difference is put into words.

Everything a table, a chart or a page shows comes from one `Summary`. Scores are fractions (0 to 1)
in the data and points (percentage points, the fraction times 100) wherever people read them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING

from quantexp.comparison.costs import Cost
from quantexp.stats import (
    FEW_CHANGED,
    AtK,
    Contrast,
    Decision,
    DivergenceSummary,
    DropPosterior,
    Estimate,
    PairedComparison,
    Verdict,
)

if TYPE_CHECKING:
    from quantexp.comparison.flips import Flips  # so does it
    from quantexp.comparison.outcomes import OutcomeShift  # it needs pandas, as does what follows
    from quantexp.comparison.subgroups import Part

REPEATS = {
    "item": "an item answered under several seeds counts once, with its mean score",
    "answer": "each answer counted as independent, even where several seeds ask the same item",
}
"""How several answers to one item count, by the unit that is counted and resampled."""


FLOOR_COUNTS = ("answers", "lost", "gained", "both_wrong_different", "churn")
"""What is counted where the baseline is compared with itself; see `flips.Flips`."""

DIFFERENCES = "differences"
"""Name of the chart of paired differences, which has files if no file's bits per weight are known."""


@dataclass(frozen=True)
class Condition:
    """One model under one condition on one task.

    Attributes:
        model: Name of the model.
        quant: Name of the condition: the quant, such as Q4_K_M, and levels of other factors, such as `lanes=1`.
        task: Name of the task.
        bits_per_weight: Measured from the file's tensors, not the nominal value of the quant; or given, where only a
            server has the file; NaN where nobody has said it.
        file_bytes: Size of the model file, or None where only a server has it.
        estimate: Mean score with its interval.
        items: Number of distinct items.
        repeats: Number of runs (seeds) that the scores come from.
        grader: Name and version of the grader.
        tokens_per_second: Generation speed, or None when it was not measured.
        run_ids: The runs these scores come from.
        floor: What changed when the same items were answered a second time (`FLOOR_COUNTS`); None where they were not.
        speed_range: 10th and 90th percentile of the single answers' tokens a second; None where they were not measured.
        busy: Share of the processor that other work took while answers were generated.
        rules: How many answers each rule of the grader has read; empty if it has but one way to read.
        cost: Of an item; None where it was not measured.
        items_in_data: Unique items that the data have; None where that is not known.
        sampled: pass@k and majority@k, where items have several answers that are right or wrong.
        levels: Its level of each factor that varies in the task, the weights first.
        kv_bytes: Bytes of the KV cache for each token of context; None where that was not recorded.
        context: Tokens of context; None where a server has its own.
        is_placebo: It computes the same as the baseline by another valid arithmetic, so that what changes is noise.
    """

    model: str
    quant: str
    task: str
    bits_per_weight: float
    file_bytes: int | None
    estimate: Estimate
    items: int
    repeats: int
    grader: str
    tokens_per_second: float | None
    run_ids: tuple[str, ...]
    floor: Mapping[str, int] | None = None
    speed_range: tuple[float, float] | None = None
    busy: float = 0.0
    rules: Mapping[str, int] = field(default_factory=dict)
    cost: Cost | None = None
    items_in_data: int | None = None
    sampled: tuple[AtK, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    is_placebo: bool = False
    kv_bytes: float | None = None
    context: int | None = None


@dataclass(frozen=True)
class Divergence:
    """Divergence of a quant's distributions from the baseline's.

    Attributes:
        summary: Over the tokens that both have read.
        answers: Number of answers that both gave; 0 where plain text was read.
        parted: Of each of the quant's answers that leaves the baseline's at some token, the place of that token in it,
            counted from 0.
        over: What both have read, in words.
    """

    summary: DivergenceSummary
    answers: int
    parted: tuple[int, ...]
    over: str


@dataclass(frozen=True)
class RuleShift:
    """The rules that read a quant's answers, where they are not those that read the baseline's.

    Attributes:
        counts: Of each rule its name, and how many answers of the baseline and of the quant it read.
        answers: Number of answers that both gave.
        alike: The paired difference on the answers that the same rule read on both sides; None if there are none.
    """

    counts: tuple[tuple[str, int, int], ...]
    answers: int
    alike: PairedComparison | None


@dataclass(frozen=True)
class Comparison:
    """One quant against the baseline on the items both have; positive means baseline is better.

    Attributes:
        decision: The verdict, among all comparisons of the summary; None where none was asked for.
        flips: What changed answer by answer; None where the answers were not looked at.
        divergence: Of the distributions; None where it was not measured.
        posterior: Of the drop; None where it was not asked for, or scores are graded.
        rules: Which rules read the two sides; None where they are the same, or the answers were not looked at.
        parts: The same comparison by field, category and difficulty; empty where the answers were not looked at.
        outcomes: What answers are besides right or wrong; empty where they were not looked at.
    """

    model: str
    task: str
    baseline: str
    quant: str
    difference: PairedComparison
    decision: Decision | None = None
    flips: "Flips | None" = None
    posterior: DropPosterior | None = None
    divergence: Divergence | None = None
    parts: "tuple[Part, ...]" = ()
    rules: RuleShift | None = None
    outcomes: "tuple[OutcomeShift, ...]" = ()


@dataclass(frozen=True)
class Interaction:
    """Loss of two changed factors beyond the sum of what each loses alone.

    Attributes:
        condition: Name of the condition in which both are changed.
        alone: Names of the two conditions in which one is.
        contrast: Of the items' scores; above 0 one makes the other worse.
        p_adjusted: After Holm's correction over all interactions of the summary.
    """

    model: str
    task: str
    condition: str
    alone: tuple[str, str]
    contrast: Contrast
    p_adjusted: float = 1.0


@dataclass(frozen=True)
class Declaration:
    """Declaration before the first answer, and its time.

    Attributes:
        hypothesis: In words; empty if only the family and the rule of decision were declared.
        sha256: Of the declaration.
        time: UTC, ISO 8601.
        commit: Of quantexp.
        late: Number of jobs that had finished by then.
        earlier: Number of answers that existed by then, as far as is known.
        answers: Number of all answers.
    """

    hypothesis: str
    sha256: str
    time: str
    commit: str
    late: int
    earlier: int = 0
    answers: int = 0


@dataclass(frozen=True)
class Answer:
    """Verdict on one claim.

    Attributes:
        claim: In words.
        answer: supported, falsified or undecided.
        contrast: The weighted sum of losses that the claim says is above 0; None where there are no scores for it.
        p_adjusted: Its p-value after Holm's correction over the claims.
        reason: Why there is no contrast.
    """

    claim: str
    answer: str
    contrast: Contrast | None
    p_adjusted: float | None
    reason: str


@dataclass(frozen=True)
class Registered:
    """A declaration, what has changed since, and the answers to its claims."""

    declaration: Declaration
    changes: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Summary:
    """All a report shows.

    Attributes:
        title: One line naming the experiment.
        baseline: The quant every other quant is compared with.
        conditions: One per model, quant and task.
        comparisons: At most one per condition other than the baseline's.
        notes: Sentences a reader must see beside the numbers, such as where the data come from; the most important
            first. Of a note with a line break only what stands before it is shown beside the verdict.
        refusals: Sentences naming the runs that could not be paired, and why.
        failures: Sentences naming the jobs that failed.
        protocol: Facts that identify the measurement: dataset and prompt hashes, versions.
        unit: What n counts and what is resampled: item, or answer (to an item under one seed).
        registered: What was declared before the first answer; None for runs that are put together by hand.
        interactions: Of factors that were changed alone and together.
        quantized_sources: Models whose quants were made from a file that is quantized itself, and what that holds.

    Raises:
        ValueError: Two conditions or two comparisons stand for the same thing, or a comparison
            has no condition; a table would silently lose one of them.
    """

    title: str
    baseline: str
    conditions: tuple[Condition, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    refusals: tuple[str, ...]
    failures: tuple[str, ...]
    protocol: Mapping[str, str]
    unit: str = "item"
    registered: Registered | None = None
    quantized_sources: Mapping[str, str] = field(default_factory=dict)
    interactions: tuple[Interaction, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be shown without loss."""
        known = Counter((c.model, c.task, c.quant) for c in self.conditions)
        compared = Counter((c.model, c.task, c.quant) for c in self.comparisons)
        for what, counts in (("condition", known), ("comparison", compared)):
            for (model, task, quant), count in counts.items():
                if count > 1:
                    raise ValueError(
                        f"The summary holds {count} {what}s for {quant} of {model} on {task}: "
                        "merge them before reporting."
                    )
        for comparison in self.comparisons:
            key = comparison.model, comparison.task, comparison.quant
            where = f"{comparison.quant} of {comparison.model} on {comparison.task}"
            if key not in known:
                raise ValueError(f"The comparison of {where} has no condition in the summary.")
            if comparison.baseline != self.baseline or comparison.quant == self.baseline:
                raise ValueError(
                    f"The comparison of {where} is against {comparison.baseline}, but a summary "
                    f"compares other quants with its one baseline {self.baseline}."
                )

    @property
    def noun(self) -> str:
        """The heading of conditions in tables: they are quants unless another factor varies, or nobody knows."""
        has_factors = any(len(each.levels) > 1 for each in self.conditions)
        return "condition" if has_factors or (self.conditions and not has_bits(self)) else "quant"

    def models(self) -> tuple[str, ...]:
        """Models, in the order of the conditions."""
        return _unique(c.model for c in self.conditions)

    def tasks(self, model: str) -> tuple[str, ...]:
        """Tasks of one model, in the order of the conditions."""
        return _unique(c.task for c in self.conditions if c.model == model)

    def ladder(self, model: str, task: str) -> tuple[Condition, ...]:
        """Conditions of one model on one task: the baseline, then from most to fewest bits."""
        found = [c for c in self.conditions if (c.model, c.task) == (model, task)]
        return tuple(sorted(found, key=lambda c: (c.quant != self.baseline, -c.bits_per_weight)))

    def comparison(self, condition: Condition) -> Comparison | None:
        """Return the comparison of a condition with the baseline, None when there is none."""
        for c in self.comparisons:
            if (c.model, c.task, c.quant) == (condition.model, condition.task, condition.quant):
                return c
        return None

    def select_comparisons(self, model: str | None = None, task: str | None = None) -> list[Comparison]:
        """Return the comparisons, or those of a model or a task, task by task and from most to fewest bits."""
        found = []
        for each in self.models() if model is None else (model,):
            for name in self.tasks(each) if task is None else (task,):
                found += [c for c in map(self.comparison, self.ladder(each, name)) if c is not None]
        return found

    def is_placebo(self, comparison: Comparison) -> bool:
        """Tell if it compares the baseline with itself by another arithmetic."""
        place = comparison.model, comparison.task, comparison.quant
        return any(each.is_placebo and (each.model, each.task, each.quant) == place for each in self.conditions)

    def section(self, comparison: Comparison) -> str:
        """Return the name of its task on a page that all models share."""
        return self.make_title(comparison.model, comparison.task)

    def make_title(self, model: str, task: str) -> str:
        """Return the name of a model's task on a page that all models share."""
        return task if len(self.models()) == 1 else f"{model}, {task}"

    def chart_stems(self, kind: str = "score_vs_bits") -> dict[str, str]:
        """File name, without its ending, of each model's chart of one kind; names stay distinct."""
        models = self.models()
        if len(models) == 1:
            return {models[0]: kind}
        stems: dict[str, str] = {}
        taken: set[str] = set()
        for model in models:
            plain = f"{kind}-" + (re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.") or "model")
            stem, number = plain, 2
            while stem.lower() in taken:  # some file systems ignore case
                stem, number = f"{plain}-{number}", number + 1
            taken.add(stem.lower())
            stems[model] = stem
        return stems


def reading(comparison: Comparison) -> str:
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
        case Verdict.inconclusive:
            return f"inconclusive: {_missing(difference, decision)}"


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
    best = f"{points(-low)} better" if low < 0 else "no change"
    worst = f"{points(high)} worse" if high > 0 else "no change"
    return f"undecided: from {best} to {worst}"


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
    low, high = format_points(difference.low), format_points(difference.high)
    return format_points(difference.difference), f"[{low}, {high}]{mark}"


def p_text(comparison: Comparison) -> str:
    """Return the p-value, after Holm's correction where there is a verdict; `-` when the interval has no width.

    A bootstrap of B resamples cannot tell less than 2 / B from 0.
    """
    difference, decision = comparison.difference, comparison.decision
    if difference.zero_width:
        return "-"
    p, smallest = (difference.p_value, 2.0 / difference.resamples) if decision is None else (decision.p_adjusted, 1e-4)
    if p < smallest:
        return f"<{smallest:.1g}" if smallest < 1e-4 else f"<{smallest:.4f}".rstrip("0")
    return f"{p:.3f}" if p >= 0.01 else f"{p:.4f}"


def declaration_text(registered: Registered) -> str:
    """Write the time of the declaration, in a sentence."""
    made = registered.declaration
    commit = f", commit {made.commit[:12]}" if re.fullmatch("[0-9a-f]{12,}", made.commit) else ""  # not of a wheel
    when = f"{made.time[:19].replace('T', ' ')} UTC (sha256 {made.sha256[:12]}{commit})"
    there = [f"{made.late} of its jobs had finished"] if made.late else []
    there += [f"{made.earlier} of {made.answers} answers existed"] if made.earlier else []
    if there:
        return f"Declared on {when}, when {' and '.join(there)} already: not a pre-registration."
    return f"Declared before the first answer, on {when}."


def answer_text(answer: Answer) -> str:
    """Return the answer to a claim with its numbers, such as `undecided: +1.2 [-2.2, +4.5], p 0.530`."""
    if answer.contrast is None:
        return f"{answer.answer}: {answer.reason}"
    low, high = format_points(answer.contrast.low), format_points(answer.contrast.high)
    return f"{answer.answer}: {format_points(answer.contrast.estimate)} [{low}, {high}], p {answer.p_adjusted:.3f}"


def comparisons_text(summary: Summary) -> str:
    """Words for all comparisons of a summary, such as `all 9 comparisons`."""
    count = len(summary.comparisons)
    return "the one comparison" if count == 1 else f"all {count} comparisons"


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


def has_bits(summary: Summary) -> bool:
    """Return whether the bits per weight of any file are known."""
    return any(not isnan(c.bits_per_weight) for c in summary.conditions)


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


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
