"""The posterior of the drop: against Monte Carlo, a fine sum, and its own algebra."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quantexp.stats import drop_posterior, tango_interval

COUNTS = [(22, 16, 600), (5, 8, 600), (37, 18, 600), (0, 0, 200), (3, 0, 200), (1, 4, 5), (0, 0, 1)]


@pytest.mark.parametrize(("b", "c", "n"), COUNTS)
def test_against_monte_carlo(b: int, c: int, n: int) -> None:
    draws = np.random.default_rng(0).dirichlet([b + 1, c + 1, n - b - c + 2], size=200_000)
    drops = draws[:, 0] - draws[:, 1]
    found = drop_posterior(b, c, n, margin=0.02)

    def close(probability: float, simulated: float) -> bool:
        return abs(probability - simulated) <= 4.5 * float(np.sqrt(probability * (1 - probability) / drops.size)) + 1e-9

    assert close(found.within, float(np.mean(drops < 0.02)))
    assert close(found.worse, float(np.mean(drops > 0)))
    assert close(0.025, float(np.mean(drops < found.low)))
    assert close(0.025, float(np.mean(drops > found.high)))
    assert found.mean == pytest.approx(drops.mean(), abs=5 * drops.std() / np.sqrt(drops.size))


@pytest.mark.parametrize(("b", "c", "n"), [*COUNTS, (0, 1, 100_000), (2500, 2400, 100_000), (60_000, 40_000, 100_000)])
@pytest.mark.parametrize("drop", [-0.3, -0.004, 0.001, 0.02])
def test_against_a_fine_sum_the_other_way_round(b: int, c: int, n: int, drop: float) -> None:
    # Over the share of losses instead of the share of changes, on a grid, normalised by its own sum.
    psi, losses = stats.beta(b + c + 2, n - b - c + 2), stats.beta(b + 1, c + 1)
    low, high = losses.ppf(1e-14), losses.isf(1e-14)
    share = low + (high - low) * (np.arange(100_000) + 0.5) / 100_000
    net = 2 * share - 1
    edge = np.divide(drop, net, out=np.full_like(net, np.inf), where=net != 0)
    below = np.where(net > 0, psi.cdf(edge), np.where(net < 0, psi.sf(edge), float(drop > 0)))
    density = losses.pdf(share)
    expected = np.sum(below * density) / np.sum(density)
    assert drop_posterior(b, c, n, margin=drop).within == pytest.approx(expected, abs=1e-7)


def test_the_seed_counts() -> None:
    q4 = drop_posterior(21, 14, 600, margin=0.03)
    assert q4.low < 7 / 600 < q4.high
    assert q4.within > 0.95 > drop_posterior(21, 14, 600, margin=0.02).within


def test_many_items_agree_with_the_score_interval() -> None:
    found = drop_posterior(550, 450, 10_000, margin=0.02)
    low, high = tango_interval(550, 450, 10_000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


counts = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 2000)).map(
    lambda t: (t[0], t[1], t[0] + t[1] + t[2])
)


@given(counts, st.floats(-0.5, 0.5), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_swapping_the_two_mirrors_the_posterior(bcn: tuple[int, int, int], margin: float, confidence: float) -> None:
    b, c, n = bcn
    one = drop_posterior(b, c, n, margin=margin, confidence=confidence)
    other = drop_posterior(c, b, n, margin=-margin, confidence=confidence)
    assert (other.low, other.high, other.mean) == (-one.high, -one.low, -one.mean)
    assert one.within + other.within == pytest.approx(1, abs=1e-9)
    assert one.worse + other.worse == pytest.approx(1, abs=1e-9)
    assert one.low < one.mean < one.high


@given(counts, st.floats(-0.5, 0.5), st.floats(0, 0.3))
def test_the_algebra_of_one_posterior(bcn: tuple[int, int, int], margin: float, more: float) -> None:
    b, c, n = bcn
    found = drop_posterior(b, c, n, margin=margin)
    assert 0 <= found.within <= 1
    assert drop_posterior(b, c, n, margin=margin + more).within >= found.within - 1e-9
    assert drop_posterior(b + 1, c, n + 1, margin=margin).within <= found.within + 1e-9
    at_high = drop_posterior(b, c, n, margin=found.high).within
    assert at_high == pytest.approx(0.975, abs=1e-7)


@pytest.mark.parametrize(
    ("counts_", "options", "message"),
    [
        ((-1, 0, 10), {}, "b=-1 and c=0 must be counts among n=10 items"),
        ((6, 5, 10), {}, "b=6 and c=5 must be counts among n=10 items"),
        ((0, 0, 0), {}, "at least one"),
        ((1, 0, 10), {"margin": 2}, "margin must be between -1 and 1, not 2"),
        ((1, 0, 10), {"confidence": 95}, "confidence must be at least 0.5 and below 1, not 95"),
    ],
)
def test_mistakes_get_one_sentence(counts_: tuple[int, int, int], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        drop_posterior(*counts_, **{"margin": 0.02, **options})
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
