"""Binary scores: golden values, statsmodels, the defining equation of the score interval, and symmetry."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lattice import exact_bootstrap_law
from scipy.optimize import minimize_scalar
from scipy.special import erfinv
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from quantexp.stats import Method, compare, mcnemar, mcnemar_p, tango_interval, wilson_interval
from quantexp.stats.binary import tango_upper

# The published comparisons as counts of 600 answers: b, c, the bootstrap's interval in answers, its p-value with ties
# on both sides, McNemar's exact p and mid-p.
PUBLISHED = [
    (22, 16, -6, 18, 0.3708, 0.418, 0.337),
    (16, 16, -11, 11, 1.0, 1.0, 1.0),
    (31, 19, -2, 26, 0.1012, 0.119, 0.092),
    (5, 8, -10, 4, 0.4864, 0.581, 0.424),
    (21, 14, -4, 19, 0.2695, 0.310, 0.243),
    (37, 18, 5, 34, 0.0112, 0.0145, 0.0105),
]

counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500)).map(
    lambda t: (t[0], t[1], max(1, sum(t)))
)
levels = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


@pytest.mark.parametrize(("b", "c", "low", "high", "p", "exact", "mid"), PUBLISHED)
def test_golden_values(b: int, c: int, low: int, high: int, p: float, exact: float, mid: float) -> None:
    law = exact_bootstrap_law(b, c, 600)
    assert law.interval() == (low / 600, high / 600)
    assert law.p_value == pytest.approx(p, abs=0.5e-4)
    assert mcnemar(b, c).exact == pytest.approx(exact, abs=0.51e-3)
    assert mcnemar(b, c).mid_p == pytest.approx(mid, abs=0.51e-3)


def test_mcnemar_of_three_known_cases() -> None:
    assert mcnemar(0, 0) == mcnemar(7, 7)
    assert (mcnemar(0, 0).exact, mcnemar(0, 0).mid_p) == (1.0, 1.0)
    assert (mcnemar(3, 0).exact, mcnemar(3, 0).mid_p) == (0.25, 0.125)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_agrees_with_others(b: int, c: int) -> None:
    ours = mcnemar(b, c)
    theirs = statsmodels_mcnemar([[1, b], [c, 1]], exact=True).pvalue if b + c else 1.0
    assert ours.exact == pytest.approx(min(1.0, theirs), rel=1e-9)
    k = min(b, c)
    assert ours.mid_p == pytest.approx(2 * binom.cdf(k - 1, b + c, 0.5) + binom.pmf(k, b + c, 0.5), rel=1e-9)
    assert ours == mcnemar(c, b)
    assert ours.mid_p <= ours.exact <= 1.0


def test_mcnemar_of_many_tables_at_once() -> None:
    b, c = np.arange(30)[:, None], np.arange(30)
    for mid in (True, False):
        table = mcnemar_p(b, c, mid=mid)
        each = [[mcnemar(i, j).mid_p if mid else mcnemar(i, j).exact for j in range(30)] for i in range(30)]
        np.testing.assert_array_equal(table, each)


@pytest.mark.parametrize("n", [200, 600])
@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.1])
def test_false_positives_of_mcnemar(n: int, share: float) -> None:
    # Exact, over the number of changed items and over which of them were lost, if nothing is lost or gained on average.
    rejected = {False: 0.0, True: 0.0}
    for changed in range(150):
        lost = np.arange(changed + 1)
        weights = binom.pmf(changed, n, share) * binom.pmf(lost, changed, 0.5)
        for mid in rejected:
            rejected[mid] += weights[mcnemar_p(lost, changed - lost, mid=mid) < 0.05].sum()
    assert rejected[False] < 0.0375
    assert 0.0025 <= rejected[True] < 0.0495


def z(b: int, c: int, n: int, delta: float) -> float:
    """Tango's statistic with its nuisance parameter found by maximising the likelihood, not by his formula."""

    def minus_log_likelihood(q: float) -> float:
        cells = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in cells if count)

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    q = minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return float((b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta))))


@given(counts, levels)
def test_tango_solves_its_equation(table: tuple[int, int, int], confidence: float) -> None:
    b, c, n = table
    critical = math.sqrt(2) * erfinv(confidence)
    low, high = tango_interval(b, c, n, confidence=confidence)
    if high < 1:
        assert z(b, c, n, high) == pytest.approx(-critical, abs=1e-3)
    if low > -1:
        assert z(b, c, n, low) == pytest.approx(critical, abs=1e-3)


@pytest.mark.parametrize(("b", "c"), [(22, 16), (5, 8), (37, 18), (3, 0)])
def test_tango_at_zero_is_mcnemars_statistic(b: int, c: int) -> None:
    # The interval whose z is (b - c) / √(b + c) ends at 0.
    statistic = abs(b - c) / math.sqrt(b + c)
    confidence = math.erf(statistic / math.sqrt(2))
    low, high = tango_interval(b, c, 600, confidence=confidence)
    assert min(abs(low), abs(high)) < 1e-12


def test_tango_with_nothing_changed_is_known_in_closed_form() -> None:
    squared = 1.959963984540054**2
    for n in (1, 7, 600, 10_000):
        half = squared / (n + squared)
        assert tango_interval(0, 0, n) == pytest.approx((-half, half), abs=1e-14)
        assert tango_interval(n, 0, n) == pytest.approx(((n - squared) / (n + squared), 1.0), abs=1e-12)


@given(counts, levels)
def test_tango_is_sane(table: tuple[int, int, int], confidence: float) -> None:
    b, c, n = table
    low, high = tango_interval(b, c, n, confidence=confidence)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert low < high
    assert tango_interval(c, b, n, confidence=confidence) == (-high, -low)
    wider = tango_interval(b, c, n, confidence=0.995)
    assert wider[0] <= low
    assert high <= wider[1]
    assert tango_upper(b, c, n, confidence=(1 + confidence) / 2) == high


@given(counts)
def test_tango_moves_with_the_counts(table: tuple[int, int, int]) -> None:
    b, c, n = table
    assume(b + c < n)
    low, high = tango_interval(b, c, n)
    one_more = tango_interval(b + 1, c, n)
    assert low <= one_more[0]
    assert high <= one_more[1]


@pytest.mark.parametrize(("n", "changed"), [(200, 0.02), (200, 0.05), (600, 0.02), (600, 0.05)])
def test_tango_covers_no_difference(n: int, changed: float) -> None:
    # Exact: the probability, over b and c, that the interval holds the truth, which is 0.
    covered = 0.0
    for m in range(0, int(n * changed * 3) + 5):
        lost = np.arange(m + 1)
        holds = [tango_interval(b, m - b, n)[0] <= 0 <= tango_interval(b, m - b, n)[1] for b in range(m + 1)]
        covered += binom.pmf(m, n, changed) * binom.pmf(lost, m, 0.5)[holds].sum()
    published = {(200, 0.02): 0.958, (200, 0.05): 0.957, (600, 0.02): 0.956, (600, 0.05): 0.948}
    assert covered == pytest.approx(published[n, changed], abs=0.0006)


def test_wilson_of_the_published_scores() -> None:
    assert wilson_interval(292, 600) == pytest.approx((0.447, 0.527), abs=0.0005)
    assert wilson_interval(273, 600) == pytest.approx((0.416, 0.495), abs=0.0005)


@given(st.integers(1, 2000), st.floats(0, 1), levels)
def test_wilson_agrees_with_statsmodels(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    low, high = wilson_interval(successes, n, confidence=confidence)
    theirs = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert (low, high) == pytest.approx(theirs, abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


@given(counts)
def test_the_bootstrap_law_is_the_law_of_a_sum(table: tuple[int, int, int]) -> None:
    b, c, n = table
    law = exact_bootstrap_law(b, c, n)
    assert law.probabilities.sum() == pytest.approx(1.0, abs=1e-9)
    assert law.sums @ law.probabilities == pytest.approx(b - c, abs=1e-6)
    variance = (law.sums**2) @ law.probabilities - (b - c) ** 2
    assert variance == pytest.approx(b + c - (b - c) ** 2 / n, abs=1e-5)
    mirrored = exact_bootstrap_law(c, b, n)
    assert mirrored.p_value == pytest.approx(law.p_value, abs=1e-12)


def test_the_bootstrap_law_of_two_items_by_hand() -> None:
    law = exact_bootstrap_law(1, 0, 2)
    likely = law.probabilities > 1e-12
    np.testing.assert_array_equal(law.sums[likely], [0, 1, 2])
    np.testing.assert_allclose(law.probabilities[likely], [0.25, 0.5, 0.25], atol=1e-15)
    assert law.p_value == pytest.approx(0.5)
    assert law.interval(0.5) == (0.0, 1.0)


@pytest.mark.parametrize(("b", "c"), [(22, 16), (37, 18), (2, 0), (0, 0)])
def test_resampling_approaches_the_exact_law(b: int, c: int) -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [b, c, 600 - b - c])
    drawn = compare(differences, np.zeros(600), seed=3, method=Method.bootstrap)
    law = exact_bootstrap_law(b, c, 600)
    assert drawn.p_value == pytest.approx(law.p_value, abs=5 * math.sqrt(law.p_value / 10_000))
    assert (drawn.low, drawn.high) == pytest.approx(law.interval(), abs=1.001 / 600)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar(-1, 3), "b and c are counts of items and must not be negative"),
        (lambda: tango_interval(5, 6, 10), "b=5 and c=6 must be counts among n=10 items"),
        (lambda: tango_interval(0, 0, 0), "n=0 items, at least one"),
        (lambda: tango_interval(1, 1, 10, confidence=95), "confidence must be at least 0 and below 1, not 95"),
        (lambda: tango_upper(1, 1, 10, confidence=0.05), "confidence must be at least 0.5 and below 1, not 0.05"),
        (lambda: wilson_interval(11, 10), "successes=11 must be a count among n=10 items"),
        (lambda: wilson_interval(1, 10, confidence=1), "confidence must be at least 0 and below 1"),
        (lambda: exact_bootstrap_law(-1, 0, 10), "b=-1 and c=0 must be counts among n=10 items"),
        (lambda: exact_bootstrap_law(10**8, 0, 10**9), "n=1000000000 items are too many for the exact law"),
        (lambda: exact_bootstrap_law(1, 0, 10).interval(2), "confidence must be at least 0 and below 1"),
    ],
)
def test_mistakes_get_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
