"""The order of claims about a pool and its tasks, and the p-value of "within the margin"."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quantexp.stats import Decision, HeldBack, Verdict, compare, decide, gate_tasks, noninferiority_p


def decision(verdict: Verdict) -> Decision:
    return Decision(verdict, 0.02, 1.0, None, fewest_items=None, chance=0.0, at_ceiling=False)


WITHIN, WORSE, OPEN = (
    decision(each) for each in (Verdict.within_margin, Verdict.worse, Verdict.inconclusive)
)  # fmt: skip
BOTH = decision(Verdict.worse_within_margin)


def test_no_task_is_called_within_unless_the_pool_is() -> None:
    for pool in (OPEN, WORSE, decision(Verdict.nothing_to_lose)):
        gated = gate_tasks(pool, [WITHIN, BOTH, WORSE, OPEN], [1e-9] * 4)
        assert [each.verdict for each in gated] == [
            *(Verdict.inconclusive, Verdict.worse),
            *(Verdict.worse, Verdict.inconclusive),
        ]
        assert [each.held_back for each in gated] == [HeldBack.pool, HeldBack.pool, None, None]
        assert gated[2:] == (WORSE, OPEN)


def test_behind_an_open_gate_tasks_are_claimed_by_holm() -> None:
    for pool in (WITHIN, BOTH):
        gated = gate_tasks(pool, [WITHIN, WITHIN, WITHIN], [0.001, 0.02, 0.04])
        assert [each.verdict for each in gated] == [Verdict.within_margin] * 3
        gated = gate_tasks(pool, [WITHIN, WITHIN, OPEN], [0.001, 0.04, 0.4])
        assert [each.held_back for each in gated] == [None, HeldBack.tasks, None]
        assert gated[1].verdict is Verdict.inconclusive
    with pytest.raises(ValueError, match="1 p-values do not fit 2 tasks"):
        gate_tasks(WITHIN, [WITHIN, OPEN], [0.1])


@given(st.lists(st.floats(0, 0.049), min_size=1, max_size=6))
def test_a_gate_only_takes_claims_away(p_values: list[float]) -> None:
    tasks = [WITHIN] * len(p_values)
    for each in gate_tasks(WITHIN, tasks, p_values):
        assert each == WITHIN or (each.held_back is HeldBack.tasks and each.verdict is Verdict.inconclusive)
    assert gate_tasks(WITHIN, [WITHIN], p_values[:1]) == (WITHIN,)  # one task has nothing to be corrected for


scores = st.lists(
    st.tuples(st.sampled_from([0.0, 1 / 3, 0.5, 1.0]), st.sampled_from([0.0, 1 / 3, 0.5, 1.0])),
    min_size=5,
    max_size=40,
)
binary = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=5, max_size=60)


@given(st.one_of(scores, binary), st.floats(0.02, 0.9), st.sampled_from([None, 0, 7]), st.sampled_from([0.0, 0.25]))
def test_the_p_value_is_below_a_level_where_the_verdict_is_within(
    pairs: list[tuple[float, float]], margin: float, more: int | None, chance: float
) -> None:
    assume(chance + margin < 1)
    baseline, quant = (np.array(side) for side in zip(*pairs, strict=True))
    population = None if more is None else len(pairs) + more
    p_value = noninferiority_p(baseline, quant, margin, population=population, chance=chance)
    for alpha in (0.01, 0.05, 0.2):
        assume(abs(p_value - alpha) > 1e-6)
        found = compare(baseline, quant, confidence=1 - alpha, population=population)
        [decided] = decide([found], margin, alpha=alpha, chances=chance)
        is_within = decided.verdict in (Verdict.within_margin, Verdict.worse_within_margin)
        assert is_within == (p_value < alpha)


def test_a_decision_that_is_held_back_asks_for_no_items() -> None:
    [alone] = decide([compare([1.0] * 300, [1.0] * 300)], 0.02)
    [held] = gate_tasks(OPEN, [alone], [0.01])
    assert held == replace(alone, verdict=Verdict.inconclusive, held_back=HeldBack.pool)
