"""Release gate: what a policy demands, and what a comparison says to each of its rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from quantexp.comparison.summary import POOL, Comparison, Pooled, Summary
from quantexp.comparison.wording import points, reading
from quantexp.config import PolicyConfig, Pool
from quantexp.stats import Verdict
from quantexp.util.errors import UserError

ALL = "all"
"""Stands for every task in `policy.no_worse`."""


class Status(Enum):
    """Outcome of a rule, and of a gate."""

    passed = "pass"
    failed = "fail"
    inconclusive = "inconclusive"


@dataclass(frozen=True, slots=True)
class Ruling:
    """One rule on one condition and task.

    Attributes:
        rule: its key in the policy.
        model: empty if the ruling is on no single condition, like the next two.
        status: the outcome.
        reason: a clause.
    """

    rule: str
    model: str
    task: str
    condition: str
    status: Status
    reason: str


def judge(summary: Summary, policy: PolicyConfig) -> list[Ruling]:
    """Return what each rule of the policy says, in the order of the summary's tables.

    Raises:
        UserError: the policy names a task or a condition that was not compared, or the comparison has no verdicts.
    """
    compared = _select(summary, policy)
    found = [*_judge_pools(summary, policy)] if policy.pool is not Pool.none else []
    found += [ruling for each in compared for ruling in _judge_comparison(each, policy)]
    for sentence in (*summary.refusals, *summary.failures):
        found.append(Ruling("complete", "", "", "", Status.inconclusive, sentence.rstrip(".")))
    if not compared and not found:
        found.append(Ruling("complete", "", "", "", Status.inconclusive, "nothing was compared"))
    return found


def decide_gate(rulings: Sequence[Ruling]) -> Status:
    """Return the outcome of all rules: one that fails decides, then one that cannot be told."""
    for status in (Status.failed, Status.inconclusive):
        if any(each.status is status for each in rulings):
            return status
    return Status.passed


def _select(summary: Summary, policy: PolicyConfig) -> list[Comparison]:
    """Return the comparisons that are judged."""
    compared = summary.select_comparisons()
    for key, asked, there in (
        ("conditions", policy.conditions, {each.quant for each in compared}),
        ("no_worse", [each for each in policy.no_worse if each != ALL], {each.task for each in compared}),
        ("margins", list(policy.margins), {each.task for each in compared}),
    ):
        if missing := [each for each in asked if each not in there]:
            raise UserError(
                f"policy.{key} names {', '.join(missing)}, of which nothing was compared; there is "
                f"{', '.join(sorted(there)) or 'nothing'}."
            )
    if policy.conditions:
        return [each for each in compared if each.quant in policy.conditions]
    return [each for each in compared if not summary.is_placebo(each)]


def _judge_pools(summary: Summary, policy: PolicyConfig) -> Iterator[Ruling]:
    judged = [each for each in summary.pools if _is_judged(summary, each, policy)]
    for each in judged:
        if each.decision is not None:
            status = _MARGIN[each.decision.verdict]
            yield Ruling("pool", each.model, POOL, each.quant, status, reading(each))
    for sentence in summary.unpooled:
        yield Ruling("pool", "", "", "", Status.inconclusive, sentence.rstrip("."))
    if not judged and not summary.unpooled:
        reason = "there is no pool: it takes two tasks at least"
        yield Ruling("pool", "", "", "", Status.inconclusive, reason)


def _is_judged(summary: Summary, pool: Pooled, policy: PolicyConfig) -> bool:
    if policy.conditions:
        return pool.quant in policy.conditions
    return not any(each.is_placebo and each.quant == pool.quant for each in summary.conditions)


def _judge_comparison(comparison: Comparison, policy: PolicyConfig) -> Iterator[Ruling]:
    where = comparison.model, comparison.task, comparison.quant
    if comparison.decision is None:
        raise UserError("A gate needs verdicts, and stats=published gives none: set stats=default.")
    verdict = comparison.decision.verdict
    if policy.each_task:
        yield Ruling("margin", *where, _MARGIN[verdict], reading(comparison))
    if {comparison.task, ALL} & {*policy.no_worse}:
        loss = comparison.difference
        if verdict in (Verdict.worse, Verdict.worse_within_margin):
            yield Ruling("no_worse", *where, Status.failed, f"worse by {points(loss.difference)} points")
        else:
            status = Status.passed if verdict is Verdict.within_margin else Status.inconclusive
            yield Ruling("no_worse", *where, status, "not shown to be worse")
    if policy.most_truncated is not None:
        yield Ruling("most_truncated", *where, *_judge_truncation(comparison, policy.most_truncated))


_MARGIN = {
    Verdict.within_margin: Status.passed,
    Verdict.worse_within_margin: Status.passed,
    Verdict.worse: Status.failed,
    Verdict.inconclusive: Status.inconclusive,
    Verdict.nothing_to_lose: Status.inconclusive,
}


def _judge_truncation(comparison: Comparison, most: float) -> tuple[Status, str]:
    if not comparison.outcomes:
        return Status.inconclusive, "its runs do not say how many answers were cut off"
    share = next((each.quant for each in comparison.outcomes if each.name == "truncated"), 0.0)
    return Status.passed if share <= most else Status.failed, f"{share:.1%} of its answers were cut off"
