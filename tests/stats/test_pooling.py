"""The pool of several tasks: what it must be in special cases, and how often it is right."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pooling import TASKS, simulate_pool

from quantexp.stats import Method, compare, mcnemar, pool, stratified_sign_p

Scores = NDArray[np.float64]


def right_or_wrong(lost: int, gained: int, n: int) -> tuple[Scores, Scores]:
    baseline = np.repeat([1.0, 0.0, 1.0], [lost, gained, n - lost - gained])
    return baseline, np.repeat([0.0, 1.0, 1.0], [lost, gained, n - lost - gained])


@st.composite
def tasks(draw: st.DrawFn, most: int = 4) -> tuple[list[Scores], list[Scores]]:
    """Scores of some tasks, right or wrong or graded."""
    levels = draw(st.sampled_from([[0.0, 1.0], [0.0, 1 / 3, 2 / 3, 1.0]]))
    score = st.sampled_from(levels)
    sides = [
        draw(st.lists(st.tuples(score, score), min_size=2, max_size=25))
        for _ in range(draw(st.integers(1, most)))
    ]  # fmt: skip
    return tuple([np.array([pair[side] for pair in each]) for each in sides] for side in (0, 1))  # type: ignore[return-value]


@given(tasks(most=1), st.sampled_from([Method.default, Method.bootstrap]), st.booleans())
def test_one_task_pooled_is_that_task(scores: Any, method: Method, is_weighted: bool) -> None:
    [baseline], [quant] = scores
    found = pool([baseline], [quant], weights=[3.0] if is_weighted else None, method=method, resamples=200)
    assert found.overall == found.tasks[0] == compare(baseline, quant, method=method, resamples=200)
    assert found.weights == (1.0,)
    assert found.heterogeneity is None


@given(tasks(), st.lists(st.floats(0.01, 100), min_size=4, max_size=4), st.booleans())
def test_the_pool_is_the_weighted_mean_and_its_interval_holds_it(
    scores: Any, weights: list[float], counts_items: bool
) -> None:
    baselines, quants = scores
    given_weights = None if counts_items else weights[: len(baselines)]
    found = pool(baselines, quants, weights=given_weights, resamples=200)
    assert math.fsum(found.weights) == pytest.approx(1)
    drops = [float((before - after).mean()) for before, after in zip(baselines, quants, strict=True)]
    overall = found.overall
    assert overall.difference == pytest.approx(np.dot(found.weights, drops), abs=1e-12)
    assert overall.difference == pytest.approx(overall.baseline_mean - overall.quant_mean, abs=1e-12)
    assert -1 <= overall.low < overall.high <= 1
    assert overall.low - 0.02 <= overall.difference <= overall.high + 0.02  # the melded ends are drawn
    assert overall.upper <= overall.high + 1e-12
    assert 0 <= overall.p_value <= 1
    assert overall.lost == sum(part.lost for part in found.tasks)
    if counts_items:
        both = np.concatenate(baselines), np.concatenate(quants)
        assert overall == compare(*both, resamples=200)


@settings(max_examples=15)
@given(tasks(), st.permutations(range(4)))
def test_the_order_of_tasks_changes_nothing_but_what_is_drawn(scores: Any, order: list[int]) -> None:
    baselines, quants = scores
    order = [place for place in order if place < len(baselines)]
    weights = [1.0 + place for place in range(len(baselines))]
    one = pool(baselines, quants, weights=weights, resamples=4000)
    other = pool(
        [baselines[place] for place in order],
        [quants[place] for place in order],
        weights=[weights[place] for place in order],
        resamples=4000,
    )
    assert one.overall.difference == pytest.approx(other.overall.difference, abs=1e-12)
    assert one.overall.low == pytest.approx(other.overall.low, abs=0.06)
    assert one.overall.high == pytest.approx(other.overall.high, abs=0.06)
    assert one.p_exact == pytest.approx(other.p_exact, nan_ok=True)


def brute_force_p(counts: list[tuple[int, int, int]], weights: list[float]) -> float:
    """The two-sided exact p-value, over every way in which the changed items could have gone."""
    steps = [
        weight / n for (lost, gained, n), weight in zip(counts, weights, strict=True) for _ in range(lost + gained)
    ]
    observed = abs(sum(w / n * (lost - gained) for (lost, gained, n), w in zip(counts, weights, strict=True)))
    sums = [abs(np.dot(signs, steps)) for signs in product((-1, 1), repeat=len(steps))]
    return float(np.mean([each >= observed - 1e-12 for each in sums]))


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(7, 30)), min_size=2, max_size=2),
    st.lists(st.sampled_from([1.0, 2.0, 0.3]), min_size=2, max_size=2),
)
def test_the_stratified_test_sums_over_every_outcome(counts: list[tuple[int, int, int]], weights: list[float]) -> None:
    parts = [compare(*right_or_wrong(*each)) for each in counts]
    exact, mid = stratified_sign_p(parts, weights)
    assert exact == pytest.approx(brute_force_p(counts, weights), abs=1e-9)
    assert mid <= exact + 1e-12


def test_with_equal_steps_it_is_mcnemars_test_of_the_sums() -> None:
    parts = [compare(*right_or_wrong(lost, gained, 200)) for lost, gained in ((9, 3), (5, 4), (8, 1))]
    assert stratified_sign_p(parts, [1.0] * 3) == (mcnemar(22, 8).exact, mcnemar(22, 8).mid_p)
    # Steps that differ by next to nothing take the other way, on which hardly anything is a tie.
    near = stratified_sign_p(parts, [1.0, 1.0 + 1e-7, 1.0 + 2e-7])
    assert mcnemar(22, 8).mid_p * 0.8 < near[0] < mcnemar(22, 8).exact


def test_many_changes_are_put_on_a_grid() -> None:
    counts = [(60, 40, 500), (70, 45, 300), (55, 50, 400), (80, 60, 700)]
    parts = [compare(*right_or_wrong(*each)) for each in counts]
    weights = [1.0, 1.1, 0.9, 1.05]
    exact, mid = stratified_sign_p(parts, weights)
    steps = np.array([w / n for w, (_, _, n) in zip(weights, counts, strict=True)])
    changed = np.array([lost + gained for lost, gained, _ in counts])
    z = float(steps @ [lost - gained for lost, gained, _ in counts]) / math.sqrt(float(steps**2 @ changed))
    assert mid == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.05)
    assert mid < exact < 1.05 * mid


def test_nothing_changed_is_not_certain() -> None:
    same = right_or_wrong(0, 0, 50)
    for weights in (None, [1.0, 2.0]):
        found = pool([same[0]] * 2, [same[1]] * 2, weights=weights)
        assert found.overall.low < 0 < found.overall.high
        assert found.overall.p_value == 1
        assert found.bootstrap_low == found.bootstrap_high == 0
        assert not found.overall.zero_width
    assert pool([same[0]] * 2, [same[1]] * 2, method=Method.bootstrap).overall.zero_width


def test_answers_to_one_item_count_once() -> None:
    baseline, quant = right_or_wrong(6, 3, 40)
    items = np.arange(40)
    once = pool([baseline] * 2, [quant] * 2, weights=[1, 1])
    thrice = pool(
        [np.tile(baseline, 3), baseline], [np.tile(quant, 3), quant], clusters=[np.tile(items, 3), None], weights=[1, 1]
    )
    assert (thrice.overall.low, thrice.overall.high) == pytest.approx((once.overall.low, once.overall.high))
    assert (thrice.bootstrap_low, thrice.bootstrap_high) == (once.bootstrap_low, once.bootstrap_high)
    assert thrice.overall.answers == once.overall.answers + 80


def test_a_fixed_set_shrinks_the_interval_and_all_of_it_is_known() -> None:
    sides = [right_or_wrong(6, 3, 40), right_or_wrong(9, 2, 80)]
    baselines, quants = zip(*sides, strict=True)
    free = pool(baselines, quants, weights=[1, 1]).overall
    half = pool(baselines, quants, weights=[1, 1], populations=[80, 160]).overall
    whole = pool(baselines, quants, weights=[1, 1], populations=[40, 80]).overall
    assert half.high - half.low < 0.9 * (free.high - free.low)
    assert half.p_value < free.p_value
    assert whole.low == pytest.approx(whole.high)
    assert whole.p_value == 0
    by_items = pool(baselines, quants, populations=[300, 100])
    assert by_items.weights == (0.75, 0.25)


def test_tasks_that_differ_are_seen() -> None:
    alike = pool(*zip(right_or_wrong(20, 10, 400), right_or_wrong(21, 9, 400), strict=True)).heterogeneity
    apart = pool(*zip(right_or_wrong(60, 0, 400), right_or_wrong(0, 60, 400), strict=True)).heterogeneity
    assert alike is not None
    assert apart is not None
    assert alike.p_value > 0.5 > 1e-6 > apart.p_value
    assert alike.i2 == 0 <= alike.i2_high
    assert 0.9 < apart.i2_low <= apart.i2 <= apart.i2_high < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"baselines": [], "quants": []}, "at least one task"),
        ({"quants": [[1.0]]}, "1 quants do not fit 2 tasks"),
        ({"weights": [1.0]}, "1 weights do not fit 2 tasks"),
        ({"weights": [1.0, 0.0]}, "weights must be above 0"),
        ({"method": Method.sequential}, "fixed beforehand"),
    ],
)
def test_wrong_input_is_a_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pool(**{"baselines": [[1.0], [0.0]], "quants": [[1.0], [0.0]], **change})


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("counts_items", [True, False])
def test_the_pool_is_right_as_often_as_it_says(name: str, counts_items: bool) -> None:
    studies = 400
    rates = simulate_pool(TASKS[name], None if counts_items else [1.0] * len(TASKS[name]), studies)
    error = 4 * math.sqrt(0.05 * 0.95 / studies)
    assert rates.covers >= 0.94 - error
    assert rates.below <= 0.06 + error  # Tango's bound, of few changes, is off by a point
    if name in ("none", "cancel"):
        assert rates.significant <= 0.05 + error
