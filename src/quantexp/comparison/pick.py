"""Pick: of each model the smallest condition that is within the margin and fits a memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from quantexp.comparison.summary import Comparison, Condition, Summary
from quantexp.models.footprint import Footprint
from quantexp.stats import Verdict
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class Wish:
    """Demands on a condition.

    Attributes:
        context: tokens of context of one conversation.
        budget: bytes that there are; None for any number.
        speed: the fewest tokens a second that are written; None for any.
    """

    context: int
    budget: int | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory that a condition takes.

    Attributes:
        file: bytes of the weights.
        footprint: of one conversation beside them.
        is_measured: it was measured now, from the file itself; otherwise it is as the run recorded it.
    """

    file: int
    footprint: Footprint
    is_measured: bool

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.file + self.footprint.cache + self.footprint.buffers


class Quality(Enum):
    """Standing of a condition over all tasks of its model."""

    baseline = "the baseline"
    within = "within the margin"
    uncertain = "not certain"
    worse = "worse"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One condition of a model.

    Attributes:
        name: of the condition.
        quality: over all tasks of the model.
        comparisons: a task each.
        missing: tasks of the model on which it was not compared.
        memory: None if nobody knows.
        written, read: tokens a second of generation and of prompts, the mean over the tasks; None if not measured.
        fits: it takes no more than the budget; None if nobody knows.
        is_fast: it writes as fast as is wished; None if nobody knows.
    """

    name: str
    quality: Quality
    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]
    memory: Memory | None
    written: float | None
    read: float | None
    fits: bool | None
    is_fast: bool | None

    @property
    def is_possible(self) -> bool:
        """True if it is known to do as wished."""
        return bool(self.fits and self.is_fast)

    @property
    def is_good(self) -> bool:
        """True if it is known to cost no more than the margin."""
        return self.quality in (Quality.baseline, Quality.within)


class Outcome(Enum):
    """Outcome of a pick."""

    picked = "picked"
    uncertain = "uncertain"
    nothing = "nothing"


@dataclass(frozen=True, slots=True)
class Pick:
    """Candidates of one model, the smallest memory first; those of unknown memory come last."""

    model: str
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate | None:
        """The smallest that does as wished and is within the margin; the baseline is."""
        return next((each for each in self.candidates if each.is_possible and each.is_good), None)

    @property
    def runners_up(self) -> list[Candidate]:
        """The others that do, from small to large."""
        return [each for each in self.candidates if each.is_possible and each.is_good and each is not self.chosen]

    @property
    def uncertain(self) -> list[Candidate]:
        """Those that would be chosen if more were measured, from small to large."""
        smaller = self.candidates if self.chosen is None else self.candidates[: self.candidates.index(self.chosen)]
        return [each for each in smaller if each.is_possible and each.quality is Quality.uncertain]

    @property
    def outcome(self) -> Outcome:
        """What came of it."""
        if self.chosen is not None:
            return Outcome.picked
        return Outcome.uncertain if self.uncertain else Outcome.nothing


def pick(summary: Summary, memories: Mapping[tuple[str, str], Memory], wish: Wish) -> tuple[Pick, ...]:
    """Return the candidates of each model, in order.

    Args:
        summary: of the sweep.
        memories: by model and condition, as far as they are known.
        wish: what is asked for.

    Raises:
        UserError: the comparison has no verdicts.
    """
    if any(each.decision is None for each in summary.comparisons):
        raise UserError("A pick needs verdicts, and stats=published gives none: set stats=default.")
    picks = []
    for model in summary.models():
        of_model = [each for each in summary.conditions if each.model == model and not each.is_placebo]
        tasks = summary.tasks(model)
        found = [
            _describe_candidate(
                summary, tasks, [each for each in of_model if each.quant == name], memories.get((model, name)), wish
            )
            for name in dict.fromkeys(each.quant for each in of_model)
        ]
        picks.append(Pick(model, tuple(sorted(found, key=_order))))
    return tuple(picks)


def decide_outcome(picks: Sequence[Pick]) -> Outcome:
    """Return the best that came of any model."""
    outcomes = {each.outcome for each in picks}
    return next((each for each in Outcome if each in outcomes), Outcome.nothing)


def _order(candidate: Candidate) -> tuple[bool, int]:
    memory = candidate.memory
    return memory is None, 0 if memory is None else memory.total


def _describe_candidate(
    summary: Summary, tasks: Sequence[str], own: Sequence[Condition], memory: Memory | None, wish: Wish
) -> Candidate:
    compared = tuple(found for each in own if (found := summary.comparison(each)) is not None)
    is_baseline = own[0].quant == summary.baseline
    on = {each.task for each in own} if is_baseline else {each.task for each in compared}
    missing = tuple(task for task in tasks if task not in on)
    written = _average([each.tokens_per_second for each in own])
    return Candidate(
        own[0].quant,
        Quality.baseline if is_baseline else _judge(compared, missing),
        compared,
        missing,
        memory,
        written,
        _average([each.prompt_tokens_per_second for each in own]),
        fits=None if memory is None else wish.budget is None or memory.total <= wish.budget,
        is_fast=True if wish.speed is None else None if written is None else written >= wish.speed,
    )


def _judge(compared: Sequence[Comparison], missing: Sequence[str]) -> Quality:
    verdicts = {each.decision.verdict for each in compared if each.decision is not None}
    if Verdict.worse in verdicts:
        return Quality.worse
    if verdicts <= {Verdict.within_margin, Verdict.worse_within_margin} and not missing:
        return Quality.within
    return Quality.uncertain


def _average(speeds: Sequence[float | None]) -> float | None:
    """Return the mean over the tasks that have timed it, which those of multiple choice do not; None if none has."""
    known = [each for each in speeds if each is not None]
    return sum(known) / len(known) if known else None
