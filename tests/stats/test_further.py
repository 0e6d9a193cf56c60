"""Items that a verdict takes: the fewest by brute force, and how many more, with their range."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.stats import Kind, Method, PairedComparison, Verdict, compare, decide, fewest_items


def unchanged(n: int, kind: Kind, method: Method, population: int | None = None) -> PairedComparison:
    """The most that n items can show: the baseline is right on all (as good as, where graded), and nothing changes."""
    scores = np.ones(n)
    if kind is Kind.graded:
        scores[-1] = 1 - 1e-6
    return compare(scores, scores, method=method, population=population)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("margin", "chance"), [(0.1, 0.0), (0.02, 0.25), (0.03, 0.96), (0.4, 0.5), (0.7, 0.0)])
def test_one_item_fewer_shows_no_margin(kind: Kind, margin: float, chance: float) -> None:
    def shows(n: int) -> bool:
        decisions = decide([unchanged(n, kind, Method.default)], margin, chances=chance)
        return decisions[0].verdict is Verdict.within_margin

    fewest = fewest_items(margin, kind=kind, chance=chance)
    assert fewest is not None
    assert fewest == next(n for n in range(1, 1000) if shows(n))
    assert decide([unchanged(1, kind, Method.default)], margin, chances=chance)[0].fewest_items == fewest


def test_only_a_gain_shows_the_margin_with_fewer() -> None:
    assert fewest_items(0.05) == 52
    same, lost, gained = decide([right_or_wrong(0, 0, 51), right_or_wrong(1, 1, 51), right_or_wrong(0, 1, 51)], 0.05)
    assert (same.verdict, lost.verdict) == (Verdict.inconclusive, Verdict.inconclusive)
    assert gained.verdict is Verdict.within_margin


def test_the_numbers_of_the_documentation() -> None:
    assert [fewest_items(margin) for margin in (0.01, 0.02, 0.03, 0.05)] == [268, 133, 88, 52]
    assert [fewest_items(margin, kind=Kind.graded) for margin in (0.01, 0.02, 0.03, 0.05)] == [299, 149, 99, 59]


def test_the_fewest_of_a_fixed_set_and_by_e_values() -> None:
    for kind in Kind:
        fewest = fewest_items(0.02, kind=kind, population=150)
        assert fewest is not None
        [few], [enough] = (decide([unchanged(n, kind, Method.default, 150)], 0.02) for n in (fewest - 1, fewest))
        assert (few.verdict, enough.verdict) == (Verdict.inconclusive, Verdict.within_margin)
    fewest = fewest_items(0.1, method=Method.sequential)
    assert fewest is not None
    [few], [enough] = (decide([unchanged(n, Kind.binary, Method.sequential)], 0.1) for n in (fewest - 1, fewest))
    assert (few.verdict, enough.verdict) == (Verdict.inconclusive, Verdict.within_margin)


def test_what_no_number_of_items_shows() -> None:
    assert fewest_items(0.5, chance=0.5) is None  # chance + margin is a score of 1
    assert fewest_items(0.02, method=Method.bootstrap) is None


@given(st.floats(0.001, 0.9), st.floats(0.001, 0.9), st.sampled_from(Kind), st.floats(0, 0.5))
def test_a_smaller_margin_takes_more(one: float, other: float, kind: Kind, chance: float) -> None:
    small, large = sorted((one, other))
    if chance + large < 0.5:
        numbers = [fewest_items(margin, kind=kind, chance=chance) for margin in (small, large)]
        assert (numbers[0] or 0) >= (numbers[1] or 0)
    graded, binary = (fewest_items(small, kind=each) for each in (Kind.graded, Kind.binary))
    assert graded is not None
    assert binary is not None
    assert binary <= graded + 1


def right_or_wrong(b: int, c: int, n: int) -> PairedComparison:
    same = np.ones(n - b - c)
    return compare(np.concatenate([np.ones(b), np.zeros(c), same]), np.concatenate([np.zeros(b), np.ones(c), same]))


@given(st.integers(0, 12), st.integers(0, 12), st.integers(5, 600), st.floats(0.005, 0.2), st.booleans())
def test_the_expected_number_lies_in_its_range(b: int, c: int, rest: int, margin: float, thirds: bool) -> None:
    n = b + c + rest
    scores = np.concatenate([np.ones(b), np.zeros(c), np.ones(rest)])
    other = np.concatenate([np.zeros(b), np.ones(c), np.ones(rest)])
    found = compare(scores / 3, other / 3) if thirds else compare(scores, other)
    [decision] = decide([found], margin)
    if decision.further is None:
        return
    assert decision.further_items == decision.further.expected
    assert 1 <= decision.further.least <= decision.further.expected
    assert decision.further.most is None or decision.further.most >= decision.further.expected
    assert decision.fewest_items is not None
    assert found.upper >= margin or found.baseline_low <= margin or n >= decision.fewest_items


def test_one_changed_item_of_sixteen_says_next_to_nothing() -> None:
    [decision] = decide([right_or_wrong(1, 0, 16)], 0.02)
    assert decision.further is not None
    assert decision.further.most is not None
    assert decision.further.most > 100 * decision.further.least
    [more] = decide([right_or_wrong(30, 25, 500)], 0.02)
    assert more.further is not None
    assert more.further.most is not None
    assert more.further.most / more.further.least < decision.further.most / decision.further.least / 4


def test_a_baseline_just_above_the_floor_asks_for_items_that_show_it() -> None:
    right = np.repeat([1.0, 0.0], [7, 193])
    [decision] = decide([compare(right, right)], 0.02)
    assert decision.verdict is Verdict.inconclusive
    assert decision.further_items is not None
    more = np.tile(right, 1 + decision.further_items // 200 + 1)
    assert decide([compare(more, more)], 0.02)[0].verdict is Verdict.within_margin


def test_graded_scores_ask_for_what_their_bound_takes() -> None:
    rng = np.random.default_rng(4)
    before = np.full(60, 2 / 3)
    after = before + rng.permutation(np.repeat([1 / 3, -1 / 3, 0.0], [6, 6, 48]))
    [decision] = decide([compare(before, after)], 0.02)
    assert decision.further_items is not None
    n = 60 + decision.further_items
    within = 0
    for _ in range(100):
        drawn = rng.choice([1 / 3, -1 / 3, 0.0], n, p=[0.1, 0.1, 0.8])
        within += decide([compare(np.full(n, 2 / 3), 2 / 3 + drawn)], 0.02)[0].verdict is Verdict.within_margin
    assert 0.66 < within / 100 < 0.93


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fewest_items(0.0), "margin must be between 0 and 1, not 0"),
        (lambda: fewest_items(0.1, chance=1.0), "chance must be at least 0 and below 1, not 1"),
        (lambda: fewest_items(0.1, alpha=0.9), "alpha must be above 0 and at most 0.5, not 0.9"),
    ],
)
def test_mistakes_get_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).endswith(".")


def test_the_bootstrap_of_scores_of_any_size_plans_by_the_normal_law() -> None:
    before = np.linspace(0, 80, 40)
    found = compare(before, before - np.tile([3.0, -3.0], 20), method=Method.bootstrap)
    [decision] = decide([found], 0.5)
    assert decision.verdict is Verdict.inconclusive
    # 6.1826 * 9 / 0.5²
    assert decision.further_items == pytest.approx(223 - 40, abs=1)
    assert decision.fewest_items is None
