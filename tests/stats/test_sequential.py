"""E-values: the closed form, exact expectations, and false claims when one looks after every item."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import betaln

from quantexp.stats import (
    Method,
    SequentialTest,
    Verdict,
    anytime_bounds,
    compare,
    decide,
    estimate,
    running_e_values,
    sequential,
    sequential_decision,
    sequential_items,
)
from quantexp.stats.power import required_items_within

Floats = NDArray[np.float64]
ALPHA = 0.05


def expectation(values: tuple[float, ...], shares: tuple[float, ...], name: str, margin: float) -> Floats:
    """The expected e-value after 1..4 items that are independent draws of these values, by enumeration."""
    total = np.zeros(4)
    probability = dict(zip(values, shares, strict=True))
    for sequence in product(values, repeat=4):
        weight = np.prod([probability[value] for value in sequence])
        total += weight * getattr(running_e_values(sequence, margin=margin), name)
    return total


def test_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    for share in (0.5, 0.8):
        d = rng.choice([1.0, -1.0, 0.0], size=600, p=[0.3 * share, 0.3 * (1 - share), 0.7])
        b, c = np.cumsum(d == 1), np.cumsum(d == -1)
        assert b[-1] + c[-1] < 256  # until then the grid is the integral
        expected = (b + c) * np.log(2) + betaln(b + 5, c + 5) - betaln(5, 5)
        np.testing.assert_allclose(np.log(running_e_values(d, margin=0.02).difference), expected, atol=1e-9)


def test_beyond_the_exact_range_the_grid_is_still_close() -> None:
    d = np.random.default_rng(2).choice([1.0, -1.0], size=5000, p=[0.55, 0.45])
    b, c = np.cumsum(d == 1), np.cumsum(d == -1)
    expected = (b + c) * np.log(2) + betaln(b + 5, c + 5) - betaln(5, 5)
    np.testing.assert_allclose(np.log(running_e_values(d, margin=0.02).difference), expected, atol=0.1)


ternary = (-1.0, 0.0, 1.0)
graded = (-2 / 3, -1 / 3, 0.0, 1 / 3, 1.0)


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        (ternary, (0.05, 0.9, 0.05)),
        (ternary, (0.4, 0.2, 0.4)),
        (graded, (0.3, 0.1, 0.2, 0.3, 0.1)),  # of mean -0.2 - 1/30 + 0.1 + 0.1 < 0
    ],
)
def test_under_the_hypothesis_no_gain_is_expected(values: tuple[float, ...], shares: tuple[float, ...]) -> None:
    mean = float(np.dot(values, shares))
    if abs(mean) < 1e-12:
        np.testing.assert_allclose(expectation(values, shares, "difference", 0.1), 1, atol=1e-12)
        np.testing.assert_allclose(expectation(values, shares, "worse", 0.1), 1, atol=1e-12)
    else:
        assert np.all(expectation(values, shares, "worse", 0.1) < 1)
        assert np.all(expectation(values, shares, "better", 0.1) > 1)


def test_at_the_margin_no_gain_is_expected() -> None:
    shares = (0.1, 0.7, 0.2)  # the drop is 0.1
    np.testing.assert_allclose(expectation(ternary, shares, "within", 0.1), 1, atol=1e-12)
    assert np.all(np.diff(expectation(ternary, shares, "within", 0.09)) < 0)
    assert np.all(np.diff(expectation(ternary, shares, "within", 0.11)) > 0)


simplex = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda w: tuple(x / sum(w) for x in w))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(graded), max_size=30), st.floats(0.01, 0.2), simplex, st.floats(-0.5, 0.0))
def test_supermartingale_after_any_history(
    history: list[float], margin: float, shares: tuple[float, float, float], shift: float
) -> None:
    # A three-point law of mean 0 (shift 0) or below; mirrored and moved, of mean at least the margin.
    values = np.array([-0.3, 0.0, 0.3])
    values = values - np.dot(values, shares) + 0.2 * shift
    before = running_e_values([*history, 0.0], margin=margin)
    start = {name: getattr(before, name)[-1] for name in ("worse", "better")}
    start["within"] = running_e_values(history, margin=margin).within[-1] if history else 1.0

    def expected(name: str, law: Floats) -> float:
        after = [getattr(running_e_values([*history, value], margin=margin), name)[-1] for value in law]
        return float(np.dot(after, shares))

    rounding = 1 + 1e-9
    assert expected("worse", values) <= start["worse"] * rounding
    assert expected("better", -values) <= start["better"] * rounding
    assert expected("within", margin - values) <= start["within"] * rounding


def ever_reached(psi: float, drop: float, n: int, verdict: str, margin: float = 0.02) -> float:
    """The probability that n items, looked at after each, ever reach 1 / alpha: exact, by following all b and c.

    The e-values of differences -1, 0 and 1 depend on the counts alone. The wealth is computed here from its definition.
    """
    size = int(n * psi + 10 * np.sqrt(n * psi)) + 3
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    if verdict == "within":
        stakes = np.geomspace(0.02, 0.95, 9) / (1 - margin)
        per_item = [np.log1p(stake * (margin - d)) for stake in stakes for d in (0.0, 1.0, -1.0)]
        logs = np.array(per_item).reshape(9, 3)
        fixed = (logs[:, 1] - logs[:, 0])[:, None, None] * b + (logs[:, 2] - logs[:, 0])[:, None, None] * c
    else:
        wealth = (b + c) * np.log(2) + betaln(b + 5, c + 5) - betaln(5, 5)
        crossed = (wealth >= np.log(1 / ALPHA)) & ((b > c) if verdict == "worse" else True)
    state = np.zeros((size, size))
    state[0, 0] = 1.0
    reached = 0.0
    up, down = (psi + drop) / 2, (psi - drop) / 2
    for t in range(1, n + 1):
        moved = state * (1 - psi)
        moved[1:] += up * state[:-1]
        moved[:, 1:] += down * state[:, :-1]
        if verdict == "within":
            crossed = np.exp(fixed + (t * logs[:, 0])[:, None, None]).mean(axis=0) >= 1 / ALPHA
        reached += moved[crossed].sum()
        state = np.where(crossed, 0.0, moved)
    return float(reached)


@pytest.mark.parametrize("psi", [0.05, 0.3])
def test_false_differences_with_a_look_after_every_item_exactly(psi: float) -> None:
    either = ever_reached(psi, 0.0, 1000, "difference")
    assert 0.003 < either < ALPHA
    assert ever_reached(psi, 0.0, 1000, "worse") == pytest.approx(either / 2, rel=1e-3)
    assert ever_reached(psi, -psi / 4, 1000, "worse") < either / 2


def test_false_claims_of_within_with_a_look_after_every_item_exactly() -> None:
    found = [ever_reached(psi, 0.02, 400, "within") for psi in (0.02, 0.05)]
    assert all(0.005 < each < ALPHA for each in found)
    assert found[1] < ever_reached(0.05, 0.0, 400, "within")


def test_the_exact_rate_is_that_of_the_decision() -> None:
    rng = np.random.default_rng(3)
    runs, n, psi = 400, 250, 0.05
    verdicts = [
        sequential_decision(rng.choice([1.0, -1.0, 0.0], size=n, p=[psi / 2, psi / 2, 1 - psi]), margin=0.05).verdict
        for _ in range(runs)
    ]
    share = verdicts.count("within") / runs
    expected = ever_reached(psi, 0.0, n, "within", margin=0.05)
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / runs)


def graded_run(rng: np.random.Generator, n: int, mean: float) -> Floats:
    """Differences of scores out of 3 fields: a tenth of the items change, by a third or two, with this mean."""
    one = rng.choice([1 / 3, 2 / 3, 0.0], size=n, p=[0.08, 0.02, 0.9])
    size = 0.08 / 3 + 0.02 * 2 / 3
    return one * np.where(rng.random(n) < (1 + mean / size) / 2, 1.0, -1.0)


def false_claims(runs: int, n: int) -> tuple[int, int]:
    rng = np.random.default_rng(4)
    none = [sequential_decision(graded_run(rng, n, 0.0), margin=0.02).verdict for _ in range(runs)]
    at_margin = [sequential_decision(graded_run(rng, n, 0.02), margin=0.02).verdict for _ in range(runs)]
    return none.count("worse"), at_margin.count("within")


def test_false_claims_on_graded_scores() -> None:
    worse, within = false_claims(150, 300)
    allowed = 150 * ALPHA + 3 * np.sqrt(150 * ALPHA * (1 - ALPHA))
    assert worse <= allowed
    assert within <= allowed


@pytest.mark.slow
def test_false_claims_on_graded_scores_many_times() -> None:
    worse, within = false_claims(4000, 1319)
    assert worse <= 4000 * ALPHA
    assert within <= 4000 * ALPHA


def test_a_bad_quant_stops_soon_and_a_good_one_is_within() -> None:
    rng = np.random.default_rng(5)
    n = 3 * required_items_within(0.02, 0.05)
    bad = sequential_decision(rng.choice([1.0, -1.0, 0.0], size=n, p=[0.15, 0.05, 0.8]), margin=0.02)
    good = sequential_decision(rng.choice([1.0, -1.0, 0.0], size=n, p=[0.025, 0.025, 0.95]), margin=0.02)
    assert (bad.verdict, good.verdict) == ("worse", "within")
    assert bad.items < 400
    assert bad.e_value >= 20
    assert good.e_value >= 20


def test_looking_later_does_not_change_the_past() -> None:
    d = np.random.default_rng(6).choice([1.0, -1.0, 0.0], size=200, p=[0.1, 0.05, 0.85])
    later = running_e_values(np.append(d, 1 / 3), margin=0.02)
    for name in ("difference", "worse", "better", "within"):
        np.testing.assert_array_equal(
            getattr(later, name)[:200], getattr(running_e_values(d, margin=0.02), name), strict=True
        )


def test_undecided_and_the_first_crossing() -> None:
    undecided = sequential_decision([0.0] * 10, margin=0.02)
    assert (undecided.verdict, undecided.items) == ("undecided", 10)
    assert 1 < undecided.e_value < 20
    lost = sequential_decision([1.0] * 50, margin=0.02)
    e_values = running_e_values([1.0] * 50, margin=0.02).difference
    assert lost.verdict == "worse"
    assert lost.items == np.flatnonzero(e_values >= 20)[0] + 1
    assert lost.e_value == e_values[lost.items - 1]
    gained = sequential_decision([-1.0] * 50, margin=0.02)
    assert gained.verdict == "within"
    assert gained.e_value >= 20
    stricter = sequential_decision([1.0] * 50, margin=0.02, alpha=ALPHA / 9)
    assert stricter.items > lost.items


def test_a_gain_is_never_worse_even_if_nothing_else_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # In practice a gain is shown to be within the margin before it is shown to be a difference.
    monkeypatch.setattr(sequential, "_WITHIN_STAKES", np.array([1e-9]))
    assert sequential_decision([1.0] * 50, margin=0.02).verdict == "worse"
    gained = sequential_decision([-1.0] * 50, margin=0.02)
    assert gained.verdict == "undecided"
    assert gained.e_value >= 20


def test_a_gambler_can_win_more_than_a_number_holds() -> None:
    assert np.isfinite(running_e_values(np.ones(3000), margin=0.02).difference).all()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_swapping_the_two_swaps_worse_and_better(d: list[float], margin: float) -> None:
    one, other = running_e_values(d, margin=margin), running_e_values(-np.array(d), margin=margin)
    np.testing.assert_allclose(one.worse, other.better)
    np.testing.assert_allclose(one.difference, (one.worse + one.better) / 2)
    wider = running_e_values(d, margin=min(0.9, margin * 1.5))
    assert one.within.shape == wider.within.shape == (len(d),)


@pytest.mark.parametrize(
    ("differences", "options", "message"),
    [
        ([], {}, "at least one item is needed"),
        ([[0.0]], {}, "one dimension"),
        (["right"], {}, "differences must be a one-dimensional array of numbers"),
        ([0.0, 2.0], {}, "between -1 and 1, but item 1 is 2.0"),
        ([float("nan")], {}, "finite, but item 0 is nan"),
        ([0.0], {"margin": 2}, "margin must be between 0 and 1, not 2"),
        ([0.0], {"alpha": 5}, "alpha must be between 0 and 1, not 5"),
        ([0.0], {"family": 0}, "family must be at least 1, not 0"),
    ],
)
def test_mistakes_get_one_sentence(differences: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        sequential_decision(differences, **{"margin": 0.02, **options})
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


changes = st.lists(st.sampled_from([*graded, 0.0, 0.0]), min_size=1, max_size=120)


@given(changes, st.floats(0.01, 0.3), st.sampled_from([0.05, 0.3]), st.integers(1, 9), st.floats(0, 1), st.data())
def test_one_item_at_a_time_decides_where_all_at_once_do(
    d: list[float], margin: float, alpha: float, k: int, share: float, data: st.DataObject
) -> None:
    draws = data.draw(st.lists(st.floats(0, 1), min_size=len(d), max_size=len(d)))
    right = [float(each < share) for each in draws]
    whole = sequential_decision(d, margin=margin, alpha=alpha, family=k, baseline=right, chance=0.25)
    test = SequentialTest(margin=margin, alpha=alpha, family=k, chance=0.25)
    decided = [test.add(*both) for both in zip(d, right, strict=True)]
    assert test.verdict == whole.verdict
    assert test.items == len(d)
    assert decided.index(True) + 1 == whole.items if any(decided) else whole.verdict == "undecided"


@given(changes, st.floats(0.01, 0.3), st.sampled_from([0.8, 0.95]))
def test_bounds_and_p_say_what_the_e_values_say(d: list[float], margin: float, confidence: float) -> None:
    alpha = 1 - confidence
    bounds = anytime_bounds(d, confidence=confidence)
    running = running_e_values(d, margin=margin)
    assert -1 <= bounds.low <= bounds.high <= 1
    assert bounds.low <= bounds.upper <= bounds.high
    seen = np.sign(np.sum(d)) * (running.worse - running.better) > 0
    largest = max(running.difference[seen], default=1.0)
    assert bounds.p_value == pytest.approx(min(1.0, 1 / largest))
    within, worse = running.within.max() * alpha, running.worse.max() * alpha / 2
    if abs(within - 1) > 1e-9:
        assert (bounds.upper < margin) == (within > 1)
    if abs(worse - 1) > 1e-9:
        assert (bounds.low > 0) == (worse > 1)
    # Looking at fewer items never says more.
    earlier = anytime_bounds(d[: max(1, len(d) // 2)], confidence=confidence)
    assert earlier.low <= bounds.low
    assert bounds.upper <= earlier.upper


def test_no_change_at_all_is_no_point() -> None:
    bounds = anytime_bounds(np.zeros(200))
    assert bounds.low < -0.02
    assert 0.01 < bounds.upper < bounds.high < 0.1


@pytest.mark.parametrize("mean", [0.0, *(pytest.param(mean, marks=pytest.mark.slow) for mean in (-0.05, 0.03))])
def test_the_sequence_hardly_ever_misses_the_mean(mean: float) -> None:
    rng = np.random.default_rng(8)
    runs, misses, late = 100, 0, 0
    for _ in range(runs):
        d = rng.choice([1.0, -1.0, 0.0], size=300, p=[0.1 + mean / 2, 0.1 - mean / 2, 0.8])
        bounds = anytime_bounds(d)  # of all looks at once: they never take back
        misses += not bounds.low <= mean <= bounds.high
        late += not mean <= bounds.upper
    allowed = runs * ALPHA + 3 * np.sqrt(runs * ALPHA * (1 - ALPHA))
    assert misses <= allowed
    assert late <= allowed


def test_a_comparison_by_e_values_is_in_the_order_of_drawing() -> None:
    rng = np.random.default_rng(9)
    before = rng.integers(0, 2, size=90).astype(float)
    after = np.where(rng.random(90) < 0.3, 1 - before, before)
    items = rng.permutation(np.repeat([f"q{i}" for i in range(45)], 2))
    found = compare(before, after, clusters=items, method=Method.sequential)
    first_seen = list(dict.fromkeys(items))
    units = [float(np.mean((before - after)[items == item])) for item in first_seen]
    bounds = anytime_bounds(units)
    assert (found.low, found.high, found.upper) == (bounds.low, bounds.high, bounds.upper)
    assert found.p_value == bounds.p_value
    assert (found.n, found.answers) == (45, 90)
    score = estimate(after, clusters=items, method=Method.sequential)
    assert 0 <= score.low < score.mean < score.high <= 1
    with pytest.raises(ValueError, match="for the population only"):
        compare(before, after, population=200, method=Method.sequential)
    with pytest.raises(ValueError, match="for the population only"):
        estimate(after, population=200, method=Method.sequential)


def test_where_a_run_stops_the_report_has_the_same_verdict() -> None:
    rng = np.random.default_rng(10)
    wanted = {"worse": Verdict.worse, "within": Verdict.within_margin}
    seen = set()
    for lost, gained in ((0.2, 0.02), (0.02, 0.02), (0.02, 0.06)) * 3:
        d = rng.choice([1.0, -1.0, 0.0], size=3000, p=[lost, gained, 1 - lost - gained])
        stopped = sequential_decision(d, margin=0.03, family=3)
        seen.add(stopped.verdict)
        before, after = (d[: stopped.items] >= 0).astype(float), (d[: stopped.items] <= 0).astype(float)
        found = compare(before, after, method=Method.sequential)
        others = [compare([1.0], [1.0], method=Method.sequential)] * 2
        assert decide([found, *others], 0.03)[0].verdict is wanted[stopped.verdict]
    assert seen == set(wanted)


@pytest.mark.parametrize(
    ("values", "shares", "margin"),
    [
        ((1.0, -1.0), (0.06, 0.03), 0.01),  # a loss
        ((1.0, -1.0), (0.025, 0.025), 0.05),  # none
        ((1 / 3, -1 / 3, 2 / 3), (0.2, 0.05, 0.1), 0.02),  # a loss of thirds
    ],
)
def test_the_number_of_items_to_a_verdict(values: tuple[float, ...], shares: tuple[float, ...], margin: float) -> None:
    law = np.array([*values, 0.0]), np.array([*shares, 1 - sum(shares)])
    mean = float(law[0] @ law[1])
    variance = float(law[0] ** 2 @ law[1]) - mean**2
    needed = min(sequential_items(mean, variance, margin=margin, family=3))
    rng = np.random.default_rng(11)
    runs = [
        sequential_decision(rng.choice(law[0], size=int(needed) + 1, p=law[1]), margin=margin, family=3).verdict
        for _ in range(120)
    ]
    assert 0.65 <= 1 - runs.count("undecided") / 120 <= 0.97


def test_an_open_comparison_says_how_many_more() -> None:
    before, after = np.ones(100), np.r_[np.zeros(3), np.ones(97)]
    found = decide([compare(before, after, method=Method.sequential)], 0.01)[0]
    assert found.verdict is Verdict.inconclusive
    assert found.further_items is not None
    assert 200 < found.further_items < 2000
    hopeless = sequential_items(0.0005, 0.9, margin=0.001)
    assert hopeless == (float("inf"), float("inf"))


def test_no_job_ends_as_within_where_there_was_nothing_to_lose() -> None:
    same = np.zeros(600)
    for baseline, verdict in ((np.zeros(600), "undecided"), (np.ones(600), "within")):
        assert sequential_decision(same, margin=0.02, baseline=baseline).verdict == verdict
        test = SequentialTest(margin=0.02)
        stopped = [test.add(0.0, score) for score in baseline]
        assert any(stopped) == (verdict == "within")
        found = compare(baseline, baseline, method=Method.sequential)
        decided = Verdict.within_margin if verdict == "within" else Verdict.nothing_to_lose
        assert decide([found], 0.02)[0].verdict is decided
    # Right a quarter of the time is chance where one of four answers is chosen.
    chosen = (np.arange(600) % 4 == 0).astype(float)
    assert sequential_decision(same, margin=0.02, baseline=chosen).verdict == "within"
    assert sequential_decision(same, margin=0.02, baseline=chosen, chance=0.25).verdict == "undecided"
    # A loss is a loss all the same.
    worse = sequential_decision(np.tile([1.0, 0.0], 100), margin=0.6, baseline=np.tile([1.0, 0.0], 100))
    assert worse.verdict == "worse"


def test_a_baseline_at_the_floor_is_hardly_ever_taken_for_more() -> None:
    rng = np.random.default_rng(3)
    runs = [
        sequential_decision(np.zeros(400), margin=0.05, baseline=rng.random(400) < 0.05).verdict for _ in range(150)
    ]
    allowed = 150 * ALPHA + 3 * np.sqrt(150 * ALPHA * (1 - ALPHA))
    assert runs.count("within") <= allowed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sequential_decision([0.0, 0.0], margin=0.1, baseline=[1.0]), "baseline has 1 scores for 2 differ"),
        (lambda: sequential_decision([0.0], margin=0.1, baseline=[80.0]), "must hold scores between 0 and 1"),
        (lambda: SequentialTest(margin=0.3, chance=0.8), "must be below 1 together"),
        (lambda: SequentialTest(margin=0.3).add(0.0, 80.0), "must hold scores between 0 and 1"),
    ],
)
def test_mistakes_about_the_baseline_get_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).endswith(".")


def test_evidence_of_a_gain_is_none_of_a_loss() -> None:
    turned = anytime_bounds([-1.0] * 15 + [1.0] * 20)
    assert running_e_values([-1.0] * 15, margin=0.02).difference[-1] > 20
    assert turned.p_value > 0.2
