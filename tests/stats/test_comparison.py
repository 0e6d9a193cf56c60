"""The entry points on arrays: golden values, the old bootstrap to the bit, repeats, fixed sets, and invariances."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import hypergeom

from quantexp.stats import (
    Kind,
    Method,
    compare,
    estimate,
    mcnemar,
    sequential_decision,
    tango_interval,
    wilson_interval,
)
from quantexp.stats.planning import Spread

Scores = NDArray[np.float64]


def right_wrong(b: int, c: int, n: int = 600) -> tuple[Scores, Scores]:
    """b items only the baseline has right, then c only the quant has right, then half of the rest right on both."""
    rest = np.arange(n - b - c) % 2
    return np.concatenate([np.ones(b), np.zeros(c), rest]), np.concatenate([np.zeros(b), np.ones(c), rest])


def thirds(n: int = 200, seed: int = 0) -> tuple[Scores, Scores]:
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 4, n)
    return before / 3, np.clip(before - rng.choice([0, 0, 0, 0, 1, -1, 1], n), 0, 3) / 3


@pytest.mark.parametrize(("b", "c"), [(22, 16), (16, 16), (31, 19), (5, 8), (21, 14), (37, 18), (0, 0), (3, 0)])
def test_right_or_wrong(b: int, c: int) -> None:
    result = compare(*right_wrong(b, c))
    assert (result.low, result.high) == tango_interval(b, c, 600)
    assert result.upper == tango_interval(b, c, 600, confidence=0.9)[1]
    assert result.p_value == mcnemar(b, c).mid_p
    assert result.difference == pytest.approx((b - c) / 600, abs=1e-15)
    assert result.difference == pytest.approx(result.baseline_mean - result.quant_mean, abs=1e-15)
    assert (result.lost, result.gained, result.changed, result.n, result.answers) == (b, c, b + c, 600, 600)
    assert (result.kind, result.interval_method, result.test_method) == (Kind.binary, "Tango score", "McNemar mid-p")
    assert result.deviation == pytest.approx(math.sqrt((b + c - (b - c) ** 2 / 600) / 599))
    assert not result.zero_width


def test_the_published_cell_in_digits() -> None:
    # TriviaQA at Q3: 37 lost, 18 gained of 600. Tango's ends from an independent solver.
    result = compare(*right_wrong(37, 18))
    assert (result.low, result.high) == pytest.approx((0.007697, 0.057129), abs=1e-6)
    assert result.p_value == pytest.approx(0.010455, abs=1e-6)
    assert result.upper == pytest.approx(0.052795, abs=1e-6)


def test_graded() -> None:
    before, after = thirds()
    result = compare(before, after)
    assert result.kind is Kind.graded
    assert result.interval_method == "Gaffke"
    assert result.test_method == "Gaffke, two-sided"
    # Wider than what the bootstrap's resamples hold, by about one unseen item in 200 on each side.
    old = compare(before, after, resamples=40_000, method=Method.bootstrap)
    assert (result.low, result.high) == pytest.approx((old.low - 0.006, old.high + 0.006), abs=0.004)
    assert result.p_value > old.p_value
    assert result.changed == old.changed
    assert result.low < result.difference < result.upper < result.high


def test_the_upper_bound_of_the_bootstrap_is_the_end_of_the_wider_tail() -> None:
    ours = compare(*thirds(), method=Method.bootstrap)
    assert ours.upper == compare(*thirds(), confidence=0.9, method=Method.bootstrap).high


def test_only_the_bootstrap_leaves_an_interval_without_width() -> None:
    same = right_wrong(0, 0, n=200)
    assert compare(*same, method=Method.bootstrap).zero_width
    assert not compare(*same).zero_width
    third = np.full(200, 1 / 3)
    assert compare(third, third).low < 0 < compare(third, third).high
    assert compare(third, third).p_value == 1.0
    assert estimate(third, method=Method.bootstrap).zero_width
    assert estimate(third).low < 1 / 3 < estimate(third).high
    assert estimate(np.ones(200)).low == wilson_interval(200, 200)[0]


def test_one_score() -> None:
    result = estimate(np.repeat([1.0, 0.0], [292, 308]))
    assert (result.low, result.high) == wilson_interval(292, 600)
    assert (result.kind, result.interval_method, result.n) == (Kind.binary, "Wilson score", 600)
    graded = estimate(thirds()[0])
    old = estimate(thirds()[0], resamples=40_000, method=Method.bootstrap)
    assert graded.interval_method == "Gaffke"
    assert (graded.low, graded.high) == pytest.approx((old.low - 0.003, old.high + 0.003), abs=0.003)


# Halves, thirds and right-or-wrong scores, sometimes with values on no lattice.
scores = st.one_of(
    st.integers(0, 1).map(float), st.integers(0, 6).map(lambda k: k / 6), st.sampled_from([0.123, 0.77777])
)
pairs = st.lists(st.tuples(scores, scores), min_size=1, max_size=40).map(
    lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
)
binary_pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60).map(
    lambda rows: (np.array([float(r[0]) for r in rows]), np.array([float(r[1]) for r in rows]))
)
any_pairs = st.one_of(pairs, binary_pairs)


def numbers(result: Any) -> list[float]:
    return [result.difference, result.low, result.high, result.upper, result.p_value, result.lost, result.gained]


@given(any_pairs, st.integers(1, 4), st.randoms())
def test_copies_of_everything_change_nothing_but_the_design_effect(
    pair: tuple[Scores, Scores], copies: int, random: Any
) -> None:
    one = compare(*pair, resamples=200)
    order = list(range(pair[0].size * copies))
    random.shuffle(order)
    before, after = (np.tile(side, copies)[order] for side in pair)
    ids = np.tile(np.arange(pair[0].size), copies)[order]
    many = compare(before, after, clusters=ids, resamples=200)
    assert numbers(many) == pytest.approx(numbers(one), abs=1e-9)
    assert (many.n, many.answers, many.kind) == (one.n, copies * one.n, one.kind)
    if one.changed and one.n > 1 and np.ptp(pair[0] - pair[1]) > 1e-9 and copies > 1:
        assert many.design_effect == pytest.approx(copies)
    alone, together = estimate(pair[0], resamples=200), estimate(before, clusters=ids, resamples=200)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-9)


@given(any_pairs)
def test_swapping_the_sides_mirrors_the_result(pair: tuple[Scores, Scores]) -> None:
    one, other = compare(*pair, resamples=200), compare(*reversed(pair), resamples=200)
    assert other.difference == -one.difference
    assert other.p_value == one.p_value
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-12)
    assert (other.lost, other.gained) == (one.gained, one.lost)
    assert other.deviation == pytest.approx(one.deviation, nan_ok=True)


@given(any_pairs, st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_what_holds_for_every_result(pair: tuple[Scores, Scores], confidence: float) -> None:
    result = compare(*pair, resamples=200, confidence=confidence)
    assert -1 <= result.low < result.high <= 1
    assert result.low <= result.upper <= result.high
    assert 0 < result.p_value <= 1
    assert not result.zero_width
    assert result.changed == np.count_nonzero(np.abs(pair[0] - pair[1]) > 1e-12)
    one = estimate(pair[0], resamples=200, confidence=confidence)
    assert 0 <= one.low < one.high <= 1


def test_repeats_of_items_that_differ_make_graded_units() -> None:
    result = compare([1, 0, 1, 1], [0, 0, 1, 1], clusters=["a", "a", "b", "b"])
    assert (result.kind, result.n, result.answers, result.difference) == (Kind.graded, 2, 4, 0.25)


def test_pooled_repeats_find_differences_that_are_not_there() -> None:
    # 200 items asked three times, half of the changed ones lost and half gained: counted as 600 answers, chance
    # differences are significant far more often than 5% of the time; counted as items, they are not.
    rng = np.random.default_rng(11)
    pooled = merged = 0
    ids = np.tile(np.arange(200), 3)
    for _ in range(300):
        before, after = np.ones(200), np.ones(200)
        before[rng.random(200) < 0.05] = 0
        after[rng.random(200) < 0.05] = 0
        pooled += compare(np.tile(before, 3), np.tile(after, 3)).p_value < 0.05
        merged += compare(np.tile(before, 3), np.tile(after, 3), clusters=ids).p_value < 0.05
    assert pooled / 300 > 0.15
    assert merged / 300 < 0.08


@pytest.mark.parametrize("pair", [right_wrong(37, 18), thirds()])
@pytest.mark.parametrize("method", [Method.default, Method.bootstrap])
def test_a_fixed_set_narrows_the_interval(pair: tuple[Scores, Scores], method: Method) -> None:
    n = pair[0].size
    one = compare(*pair, method=method)
    fixed = compare(*pair, population=2 * n, method=method)
    factor, half = math.sqrt(n / (2 * n - 1)), 0.0 if method is Method.bootstrap else 0.5 / (2 * n)
    assert fixed.high - fixed.difference == pytest.approx(factor * (one.high - one.difference) + half)
    assert fixed.difference - fixed.low == pytest.approx(factor * (one.difference - one.low) + half)
    assert fixed.upper - fixed.difference == pytest.approx(factor * (one.upper - one.difference) + half)
    assert fixed.p_value < one.p_value
    above = fixed.baseline_mean - fixed.baseline_low
    assert above == pytest.approx(factor * (one.baseline_mean - one.baseline_low) + half)
    shrunk = {"low", "high", "upper", "p_value", "population", "baseline_low"}
    assert replace(fixed, **{name: getattr(one, name) for name in shrunk}) == one
    whole = compare(*pair, population=n, method=method)
    assert whole.low == whole.difference == whole.high == whole.upper
    assert whole.p_value == 0.0
    assert not whole.zero_width
    score = estimate(pair[0], population=n, method=method)
    assert score.low == score.mean == score.high
    assert not score.zero_width


@pytest.mark.parametrize(("n", "size", "lost"), [(148, 150, 14), (145, 150, 4), (194, 200, 5), (329, 1319, 10)])
@pytest.mark.parametrize("score", [1.0, 1 / 3])
def test_nearly_all_of_a_fixed_set_leaves_what_the_rest_may_hide(n: int, size: int, lost: int, score: float) -> None:
    """Exact: how often the bound lies below the set's own drop."""
    missed = 0.0
    for seen in range(lost + 1):
        before = np.full(n, score)
        after = before - score * (np.arange(n) < seen)
        found = compare(before, after, population=size)
        weight = float(hypergeom.pmf(seen, size, lost, n))
        missed += weight * (found.upper < score * lost / size - 1e-12)
    assert missed <= 0.0565


@given(any_pairs, st.integers(0, 40), st.sampled_from([0.5, 0.8, 0.95]))
def test_a_fixed_set_has_its_estimate_within_its_interval(
    pair: tuple[Scores, Scores], others: int, confidence: float
) -> None:
    size = pair[0].size + others
    found = compare(*pair, population=size, confidence=confidence)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.low <= found.upper <= found.high
    assert 0 <= found.baseline_low <= found.baseline_mean
    one = estimate(pair[0], population=size, confidence=confidence)
    assert 0 <= one.low <= one.mean <= one.high <= 1


def test_a_bound_at_the_end_of_the_scale_stays_there_in_a_fixed_set() -> None:
    assert estimate(np.zeros(600), population=1319).low == 0.0
    assert estimate(np.ones(600), population=1319).high == 1.0
    assert compare(np.zeros(10), np.ones(10), population=20).low == -1.0
    assert compare(np.ones(10), np.zeros(10), population=20).high == 1.0
    assert compare(np.zeros(22), np.zeros(22), population=23).baseline_low == 0.0


def test_one_changed_item_of_a_whole_set_is_certain() -> None:
    before, after = np.full(50, 0.5), np.full(50, 0.5)
    after[3] = 0.25
    assert compare(before, after).p_value == 1.0
    assert compare(before, after, population=50).p_value == 0.0
    assert compare(before, before, population=50).p_value == 1.0


def test_copies_do_not_count_against_the_population() -> None:
    before, after = right_wrong(3, 1, n=20)
    ids = np.tile(np.arange(20), 3)
    assert compare(np.tile(before, 3), np.tile(after, 3), clusters=ids, population=20).n == 20


def test_a_single_item() -> None:
    result = compare([1.0], [0.0])
    assert result.p_value == 0.5
    assert result.low < 0 < result.high == 1.0
    assert math.isnan(result.deviation)


def test_a_score_that_differs_by_rounding_has_not_changed() -> None:
    for method in Method:
        result = compare([0.1 + 0.2] * 10, [0.3] * 10, method=method)
        assert (result.lost, result.gained, result.p_value) == (0, 0, 1.0)


def test_scores_rounded_past_one_are_scores() -> None:
    assert compare([1.0 + 1e-12, 0.5], [0.5, 0.5]).kind is Kind.graded


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare([1.0], [1.0, 0.0]), "baseline has 1 scores and quant has 2"),
        (lambda: compare([], []), "baseline holds no score"),
        (lambda: compare([0.5, math.nan], [1.0, 1.0]), "baseline must be finite, but item 1 is nan"),
        (lambda: compare([0.5, 3.0], [1.0, 1.0]), "scores must lie between 0 and 1, not 3"),
        (lambda: compare([0.5, 0.0], [1.0, -1.0]), "scores must lie between 0 and 1, not -1"),
        (lambda: estimate([0.5, 80.0]), "scores must lie between 0 and 1, not 80"),
        (lambda: estimate([[0.5]]), "scores must have one dimension"),
        (lambda: compare([1.0], [1.0], clusters=[1, 2]), "clusters must hold one id for each of the 1 answers"),
        (lambda: compare([1.0, 0.0], [1.0, 1.0], population=1), "population=1 must be at least"),
        (lambda: estimate([1.0, 0.0], population=1), "population=1 must be at least"),
        (lambda: compare([1.0], [1.0], confidence=95), "confidence must be at least 0.5 and below 1, not 95"),
        (lambda: compare([1.0], [1.0], resamples=0), "resamples must be at least 1"),
        (lambda: estimate([1.0], seed=-1), "seed must not be negative"),
    ],
)
def test_mistakes_get_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_the_bootstrap_takes_scores_of_any_size() -> None:
    assert compare([5.0, 80.0], [3.0, 70.0], method=Method.bootstrap).difference == 6.0


names = st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=20, unique=True)


@given(names, st.data())
def test_series_are_paired_by_their_labels(labels: list[str], data: st.DataObject) -> None:
    values = st.lists(st.integers(0, 3).map(lambda k: k / 3), min_size=len(labels), max_size=len(labels))
    before, after = (pd.Series(data.draw(values), index=labels) for _ in range(2))
    items = pd.Series(data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels))), index=labels)
    mixed = data.draw(st.permutations(labels))
    assert compare(before, after[mixed]) == compare(before.to_numpy(), after.to_numpy())
    assert compare(before, after[mixed], clusters=items[mixed[::-1]]) == compare(
        before.to_numpy(), after.to_numpy(), clusters=items.to_numpy()
    )
    assert estimate(before, clusters=items[mixed]) == estimate(before.to_numpy(), clusters=items.to_numpy())
    assert Spread.seen(before, after[mixed]) == Spread.seen(before.to_numpy(), after.to_numpy())
    changes = before - after
    assert sequential_decision(changes, margin=0.1, baseline=before[mixed]) == sequential_decision(
        changes.to_numpy(), margin=0.1, baseline=before.to_numpy()
    )


def test_the_rows_of_one_table_belong_together_whatever_repeats_in_its_index() -> None:
    table = pd.DataFrame({"before": [1.0, 0.0, 1.0], "after": [0.0, 0.0, 1.0]}, index=["a", "a", "b"])
    found = compare(table["before"], table["after"], clusters=table.index)
    assert (found.n, found.answers, found.difference) == (2, 3, 0.25)


def test_a_series_beside_an_array_is_taken_row_by_row() -> None:
    assert compare(pd.Series([1.0, 0.0], index=["b", "a"]), [1.0, 1.0]).gained == 1


ABC = pd.Series([1.0, 0.0, 1.0], index=list("abc"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare(ABC, ABC.rename({"c": "d"})), "baseline and quant have different labels .* such as 'c'"),
        (lambda: compare(ABC, ABC[["a", "b"]]), "different labels"),
        (lambda: compare(ABC, pd.Series([1.0, 0.0, 1.0], index=list("aab"))), "index of quant has 'a' twice"),
        (lambda: compare(ABC, ABC[::-1], clusters=["x", "y", "y"]), "clusters has none: give it the same index"),
        (lambda: estimate(ABC, clusters=ABC.rename({"c": "d"})), "scores and clusters have different labels"),
    ],
)
def test_series_that_do_not_fit_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).endswith(".")
