"""Summary of a finished comparison: the facts that reports show.

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
from quantexp.models.footprint import Footprint
from quantexp.stats import (
    AtK,
    Contrast,
    Decision,
    DivergenceSummary,
    DropPosterior,
    Estimate,
    PairedComparison,
    PooledComparison,
    RandomEffects,
)
from quantexp.stats.rank_agreement import RankAgreement
from quantexp.tracking.registration import Registration

if TYPE_CHECKING:
    from quantexp.comparison.flips import Flips  # so does it
    from quantexp.comparison.outcomes import OutcomeShift  # it needs pandas, as does what follows
    from quantexp.comparison.subgroups import Part

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
        prompt_tokens_per_second: Speed of reading prompts, likewise.
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
        footprints: Memory of one conversation beside the weights, by context; empty where that was not recorded.
        divergence: Of its distributions from those in a file; None of all that is measured from the baseline.
        tables: Names of the tables of answers that their scores are in, where these are not the runs' own.
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
    prompt_tokens_per_second: float | None = None
    footprints: tuple[Footprint, ...] = ()
    divergence: "Divergence | None" = None
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Divergence:
    """Divergence of a quant's distributions from the baseline's, or from those in a file.

    Attributes:
        summary: Over the tokens that both have read.
        answers: Number of answers that both gave; 0 where plain text was read.
        parted: Of each of the quant's answers that leaves the baseline's at some token, the place of that token in it,
            counted from 0.
        over: What both have read, in words.
        base: The name of the file with the distributions; empty if they are the baseline's.
        left_out: Of a server's quant, whose divergence is a lower bound: the mean of the baseline's probability of the
            tokens that it was not told of. None where whole distributions were measured.
    """

    summary: DivergenceSummary
    answers: int
    parted: tuple[int, ...]
    over: str
    base: str = ""
    left_out: float | None = None


@dataclass(frozen=True)
class RankComparison:
    """Agreement of the conditions' order by divergence on a corpus with their order by loss on a task.

    Attributes:
        corpus: Name of the task whose tokens divergence was measured over.
        over: What was read there, in words.
        task: Name of the task whose losses are ordered.
        whole: Of all conditions.
        near: Of the half with the least divergence.
    """

    model: str
    corpus: str
    over: str
    task: str
    whole: RankAgreement
    near: RankAgreement


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


POOL = "pool"
"""Stands where a task's name does, for all tasks together."""


@dataclass(frozen=True)
class Pooled:
    """One condition of a model against the baseline over several tasks.

    Attributes:
        tasks: Their names, in the order of the pool's weights.
        pooled: The comparison.
        weighting: How tasks count, as `stats.pool` has it.
        decision: The verdict, made before those on the tasks; None where none was asked for.
    """

    model: str
    baseline: str
    quant: str
    tasks: tuple[str, ...]
    pooled: PooledComparison
    weighting: str
    decision: Decision | None = None

    @property
    def difference(self) -> PairedComparison:
        """The weighted mean of the tasks' differences."""
        return self.pooled.overall


@dataclass(frozen=True)
class AcrossModels:
    """Cost of one condition over several models.

    Attributes:
        task: Name of the task, or `POOL`.
        quant: Name of the condition.
        models: Their names.
        families: The family of each.
        losses: Of each, as fractions of the score.
        errors: Standard error of each by chance.
        average: Over these models and further ones of their kind.
    """

    task: str
    quant: str
    models: tuple[str, ...]
    families: tuple[str, ...]
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    average: RandomEffects


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
    """A declaration, what has changed since, and the answers to its claims.

    Attributes:
        declaration: As the store has it.
        hypothesis: In words; empty if only the family and the rule of decision were declared.
        changes: Sentences.
        answers: One a claim, and model if there are several.
        earlier: Number of the models' answers that existed before the declaration, as far as is known.
        total: Number of all of them.
    """

    declaration: Registration
    hypothesis: str
    changes: tuple[str, ...]
    answers: tuple[Answer, ...]
    earlier: int = 0
    total: int = 0


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
        pools: Of each model's conditions, over its tasks; empty where no pool was asked for.
        unpooled: Sentences naming the pools that could not be made, and why.
        across: Of conditions that several models have.
        rank_agreements: Of orders by divergence with orders by loss; empty if no divergence was measured.

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
    pools: tuple[Pooled, ...] = ()
    unpooled: tuple[str, ...] = ()
    across: tuple[AcrossModels, ...] = ()
    rank_agreements: tuple[RankComparison, ...] = ()

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
    def has_bits(self) -> bool:
        """True if the bits per weight of any file are known."""
        return any(not isnan(c.bits_per_weight) for c in self.conditions)

    @property
    def noun(self) -> str:
        """The heading of conditions in tables: they are quants unless another factor varies, or nobody knows."""
        has_factors = any(len(each.levels) > 1 for each in self.conditions)
        return "condition" if has_factors or (self.conditions and not self.has_bits) else "quant"

    def models(self) -> tuple[str, ...]:
        """Models, in the order of the conditions."""
        return _unique(c.model for c in self.conditions)

    def tasks(self, model: str) -> tuple[str, ...]:
        """Tasks of one model, in the order of the conditions."""
        return _unique(c.task for c in self.conditions if c.model == model)

    def places(self) -> list[tuple[str, str]]:
        """Each model with each of its tasks, in the order of the conditions."""
        return [(model, task) for model in self.models() for task in self.tasks(model)]

    def ladder(self, model: str, task: str) -> tuple[Condition, ...]:
        """Conditions of one model on one task: the baseline, then from most to fewest bits."""
        found = [c for c in self.conditions if (c.model, c.task) == (model, task)]
        return tuple(sorted(found, key=lambda c: (c.quant != self.baseline, -c.bits_per_weight)))

    def comparison(self, condition: Condition) -> Comparison | None:
        """Return the comparison of a condition with the baseline, None when there is none."""
        place = condition.model, condition.task, condition.quant
        return next((c for c in self.comparisons if (c.model, c.task, c.quant) == place), None)

    def find_condition(self, model: str, task: str, quant: str) -> Condition | None:
        """Return a condition by its names, None where there is none."""
        return next((c for c in self.conditions if (c.model, c.task, c.quant) == (model, task, quant)), None)

    def select_comparisons(self, model: str | None = None, task: str | None = None) -> list[Comparison]:
        """Return the comparisons, or those of a model or a task, task by task and from most to fewest bits."""
        found = []
        for each in self.models() if model is None else (model,):
            for name in self.tasks(each) if task is None else (task,):
                found += [c for c in map(self.comparison, self.ladder(each, name)) if c is not None]
        return found

    def find_divergence(self, condition: Condition) -> Divergence | None:
        """Return the divergence of a condition, None where none was measured; the baseline has one from a file only."""
        comparison = self.comparison(condition)
        return condition.divergence if comparison is None else comparison.divergence

    @property
    def divergence_base(self) -> str:
        """The name of what divergence is measured from: a file's, or else the baseline's."""
        found = [each.divergence for each in self.conditions if each.divergence is not None]
        return found[0].base if found else self.baseline

    @property
    def has_bounds(self) -> bool:
        """True if any divergence is a lower bound."""
        found = map(self.find_divergence, self.conditions)
        return any(each is not None and each.left_out is not None for each in found)

    def is_placebo(self, comparison: Comparison) -> bool:
        """Tell if it compares the baseline with itself by another arithmetic."""
        condition = self.find_condition(comparison.model, comparison.task, comparison.quant)
        return condition is not None and condition.is_placebo

    def section(self, comparison: Comparison | Condition) -> str:
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


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
