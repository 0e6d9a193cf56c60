"""Ending a quant's job as soon as its verdict is known (`stats=sequential`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantexp.config import Config, Method
from quantexp.config.condition import find_reference, is_baseline
from quantexp.config.fingerprint import pair_fingerprint
from quantexp.config.identity import Identity, differences, share_identity
from quantexp.engines import Completion, Prompt
from quantexp.evaluation.finished_jobs import find_baseline
from quantexp.evaluation.scoring import AnswerGrading
from quantexp.stats import SequentialTest
from quantexp.tasks.items import Item
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import JOB
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Rule of early stopping, fixed before a job begins.

    Attributes:
        baseline: the finished job that it is compared with, answer by answer.
        margin: the drop that would not matter.
        alpha: the level of its verdicts.
        family: the comparisons that were declared together.
        varying: the factors in which the two may differ besides the weights.
    """

    baseline: JobRecord
    margin: float
    alpha: float
    family: int
    varying: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """All that decides where a job ends besides its own answers."""
        return f"{self.baseline.tags[JOB]} {self.margin} {self.alpha} {self.family}"

    @property
    def words(self) -> str:
        """Margin and family, for a person."""
        return f"margin {100 * self.margin:.4g} points, family of {self.family}"

    def check(self, identity: Identity) -> None:
        """Refuse a baseline that the job cannot be compared with.

        Raises:
            UserError: something but the quant differs; the sentence names it.
        """
        here, there = (share_identity(each, self.varying) for each in (identity, self.baseline.identity))
        if other := differences(here, there):
            raise UserError(
                f"stats=sequential compares with {self.baseline.name} (run {self.baseline.run_id[:8]}) while the job "
                f"runs, but that one was made differently: {other}; run the baseline again with the same settings."
            )


def make_stopping_rule(config: Config, pair: str, store: Store, sweep: str | None) -> StoppingRule | None:
    """Return the rule of early stopping; None if the job answers all of its items.

    Args:
        config: the job.
        pair: what it has in common with the baseline's (`pair_fingerprint`).
        store: where that is recorded.
        sweep: id of the run that the job belongs to, if any.

    Raises:
        UserError: the baseline has not answered the same items yet.
    """
    stats = config.stats
    if stats.method is not Method.sequential or is_baseline(config):
        return None
    baseline = find_baseline(config, pair, store, sweep)
    if baseline is None:
        raise UserError(
            f"stats=sequential compares with the baseline while the job runs, and {stats.baseline} of "
            f"{config.model.name} on {config.task.name} with seed {config.seed} has no finished run: run it first, or "
            "put it first in quant=."
        )
    declared = None if sweep is None else store.registration(sweep)
    return StoppingRule(
        baseline,
        margin=stats.margins.get(config.task.name, stats.margin),
        alpha=round(1 - stats.confidence, 12),
        family=1 if declared is None else declared.comparisons,
        varying=tuple(find_reference(config)),
    )


def check_sequential(jobs: Sequence[Config]) -> None:
    """Refuse a sweep whose jobs could not be stopped by a rule that holds.

    Raises:
        UserError: it has several seeds, or the baseline is not first.
    """
    if jobs[0].stats.method is not Method.sequential:
        return
    if len({job.seed for job in jobs}) > 1:
        raise UserError(
            "stats=sequential takes one seed: each would decide anew whether the same quant is worse; for more items "
            "raise task.limit."
        )
    baseline = jobs[0].stats.baseline
    led_by_baseline: dict[str, bool] = {}
    for job in jobs:
        leads = led_by_baseline.setdefault(pair_fingerprint(job), is_baseline(job))
        if is_baseline(job) and not leads:
            raise UserError(f"stats=sequential compares with {baseline} while the others run: put it first in quant=.")


def group_duplicates(items: Sequence[Item]) -> tuple[Item, ...]:
    """Group duplicates: items in their order, but those that ask the same next to each other count once.

    They stand where the one with the first id stands. The place of whichever was drawn first would bring questions with
    many copies forward, and early evidence would not be that of a random question.
    """
    first: dict[str, str] = {}
    for item in items:
        first[item.cluster] = min(item.id, first.get(item.cluster, item.id))
    place = {item.id: number for number, item in enumerate(items)}
    return tuple(sorted(items, key=lambda item: place[first[item.cluster]]))


class Stopping:
    """Follows a job's answers in their order, and says when no more are needed."""

    def __init__(
        self, rule: StoppingRule, prompts: Sequence[Prompt], items: Sequence[Item], grading: AnswerGrading
    ) -> None:
        """Items of one cluster must follow each other; see `group_duplicates`.

        Args:
            rule: when to end.
            prompts: all that the job would ask, in order.
            items: those that the prompts ask.
            grading: of the answers.
        """
        self._test = SequentialTest(margin=rule.margin, alpha=rule.alpha, family=rule.family)
        self._baseline = rule.baseline.scores.dropna().to_dict()
        cluster_of = {item.id: item.cluster for item in items}
        self._clusters = [cluster_of[prompt.item_id] for prompt in prompts]
        self._grading = grading
        self._answered = 0
        self._scores: dict[str, list[float]] = {}

    def __call__(self, prompt: Prompt, completion: Completion) -> bool:
        """Take the next answer; whether the verdict is known now that its item is complete."""
        score = self._grading.verdict(prompt, completion)["score"]
        if score is not None:
            self._scores.setdefault(prompt.item_id, []).append(score)
        cluster = self._clusters[self._answered]
        self._answered += 1
        if self._answered < len(self._clusters) and self._clusters[self._answered] == cluster:
            return False
        both = [
            (self._baseline[item], float(np.mean(of))) for item, of in self._scores.items() if item in self._baseline
        ]
        self._scores = {}
        if not both:
            return False
        baseline, quant = np.mean(both, axis=0)
        return self._test.add(float(np.clip(baseline - quant, -1, 1)), float(np.clip(baseline, 0, 1)))
