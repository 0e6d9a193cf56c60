"""What a release gate says to each rule of its policy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.comparison.outcomes import OutcomeShift
from quantexp.comparison.policy import Ruling, Status, decide_gate, judge
from quantexp.comparison.summary import Comparison, Condition, Summary
from quantexp.config import PolicyConfig
from quantexp.stats import Method, compare, decide, estimate
from quantexp.util.errors import UserError

ITEMS = 1000


def scores(right: int) -> np.ndarray:
    """So many right answers, the first ones; below 0, as many as the baseline has, others than its own."""
    found = (np.arange(ITEMS) < abs(right)).astype(float)
    return found if right > 0 else np.roll(found, 150)


def summary_of(*rights: int, baseline: int = 500, method: Method = Method.default, **changes: Any) -> Summary:
    """One task, on which each condition has so many right answers, all of them the baseline's; A is the first."""
    names = [chr(ord("A") + place) for place in range(len(rights))]
    found = [compare(scores(baseline), scores(right), resamples=100, method=method) for right in rights]
    decisions = decide(found, 0.02) if found and method is Method.default else [None] * len(found)
    conditions = [("base", baseline), *zip(names, rights, strict=True)]
    summary = Summary(
        title="t",
        baseline="base",
        conditions=tuple(
            Condition("m", name, "t", 4.0, 1, estimate(scores(right), resamples=100), ITEMS, 1, "g", None, (name,))
            for name, right in conditions
        ),
        comparisons=tuple(
            Comparison("m", "t", "base", name, each, decision)
            for name, each, decision in zip(names, found, decisions, strict=True)
        ),
        notes=(),
        refusals=(),
        failures=(),
        protocol={},
    )
    return replace(summary, **changes)


def statuses(summary: Summary, **policy: Any) -> dict[tuple[str, str], Status]:
    return {(each.condition, each.rule): each.status for each in judge(summary, PolicyConfig(**policy))}


def test_each_verdict_has_its_status() -> None:
    found = statuses(summary_of(500, 400, -500))
    assert found == {
        ("A", "margin"): Status.passed,  # the same
        ("B", "margin"): Status.failed,  # worse by ten points
        ("C", "margin"): Status.inconclusive,  # as good, on other items
    }
    assert statuses(summary_of(10, baseline=10)) == {("A", "margin"): Status.inconclusive}  # nothing to lose


def test_a_loss_within_the_margin_passes_unless_no_loss_may_be() -> None:
    small = summary_of(493)
    assert small.comparisons[0].decision is not None
    assert small.comparisons[0].decision.verdict.value == "worse, but within margin"
    assert statuses(small) == {("A", "margin"): Status.passed}
    for policy in (["t"], ["all"]):
        assert statuses(small, no_worse=policy)["A", "no_worse"] is Status.failed
    assert statuses(summary_of(500), no_worse=["t"])["A", "no_worse"] is Status.passed
    assert statuses(summary_of(400), no_worse=["all"])["A", "no_worse"] is Status.failed
    assert statuses(summary_of(-500), no_worse=["all"])["A", "no_worse"] is Status.inconclusive


def test_answers_that_are_cut_off() -> None:
    def with_share(share: float) -> Summary:
        summary = summary_of(500)
        cut = (np.arange(ITEMS) < share * ITEMS).astype(float)
        shift = OutcomeShift("truncated", compare(cut, np.zeros(ITEMS), resamples=100))
        [each] = summary.comparisons
        return replace(summary, comparisons=(replace(each, outcomes=(shift,)),))

    key = ("A", "most_truncated")
    assert statuses(with_share(0.05), most_truncated=0.05)[key] is Status.passed
    assert statuses(with_share(0.06), most_truncated=0.05)[key] is Status.failed
    assert key not in statuses(with_share(0.06))
    assert statuses(summary_of(500), most_truncated=0.05)[key] is Status.inconclusive  # of runs that do not say


def test_what_was_not_compared_is_not_passed() -> None:
    for summary in (summary_of(500, refusals=("X cannot be paired.",)), summary_of(500, failures=("Y failed.",))):
        [_, ruling] = judge(summary, PolicyConfig())
        assert (ruling.rule, ruling.status) == ("complete", Status.inconclusive)
    [ruling] = judge(summary_of(), PolicyConfig())
    assert ruling.status is Status.inconclusive


def test_conditions_may_be_chosen_and_placebos_are_not_judged() -> None:
    summary = summary_of(500, 400)
    assert statuses(summary, conditions=["A"]).keys() == {("A", "margin")}
    placebo = tuple(replace(each, is_placebo=each.quant == "B") for each in summary.conditions)
    assert statuses(replace(summary, conditions=placebo)).keys() == {("A", "margin")}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"conditions": ["X"]}, r"policy\.conditions names X, of which nothing was compared; there is A\."),
        ({"no_worse": ["u", "all"]}, r"policy\.no_worse names u, of which nothing was compared; there is t\."),
        ({"margins": {"u": 0.1}}, r"policy\.margins names u, "),
    ],
)
def test_a_policy_that_names_what_is_not_there(policy: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        judge(summary_of(500), PolicyConfig(**policy))


def test_a_gate_needs_verdicts() -> None:
    with pytest.raises(UserError, match="stats=published gives none"):
        judge(summary_of(500, method=Method.bootstrap), PolicyConfig())


@given(st.lists(st.sampled_from(Status), max_size=6))
def test_one_failure_fails_and_one_doubt_is_a_doubt(found: list[Status]) -> None:
    outcome = decide_gate([Ruling("margin", "m", "t", "A", status, "so") for status in found])
    assert (outcome is Status.failed) == (Status.failed in found)
    assert (outcome is Status.passed) == (set(found) <= {Status.passed})
