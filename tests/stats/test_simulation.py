"""The defaults keep their promises: coverage, false claims and power, exactly where possible, else simulated.

The functions are those that make the table of docs/explanation/statistics.md; the bounds of simulated values allow for
four standard errors of the simulation.
"""

import frequencies
import graded
import numpy as np
import pytest
import simulation
from simulation import Row

from quantexp.stats import Kind, Verdict, decide, power_within, required_items_within


def holds(found: tuple[float, float], low: float, high: float) -> bool:
    """Whether a simulated share lies in a range, give or take four standard errors."""
    share, error = found
    return low - 4 * error <= share <= high + 4 * error


def test_bca_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    d = np.repeat([1.0, -1.0, 0.0], [22, 16, 562])
    theirs = bootstrap((d,), np.mean, n_resamples=20_000, batch=500, method="BCa", rng=np.random.default_rng(0))
    assert frequencies.bca(22, 16, 600) == pytest.approx(tuple(theirs.confidence_interval), abs=1.001 / 600)


def test_outcomes_are_the_trinomial_law() -> None:
    for n, psi, drop in ((30, 0.3, 0.1), (600, 0.05, 0.05), (200, 1.0, -0.2)):
        b, c, weight = frequencies.outcomes(n, psi, drop)
        assert weight.sum() == pytest.approx(1, abs=1e-8)
        assert weight @ (b - c) / n == pytest.approx(drop, abs=1e-8)
        assert weight @ (b + c) / n == pytest.approx(psi, abs=1e-8)
        variance = weight @ (b - c - n * drop) ** 2
        assert variance == pytest.approx(n * (psi - drop**2), rel=1e-6)


@pytest.mark.parametrize(("n", "psi"), [(200, 0.02), (200, 0.05), (600, 0.05)])
@pytest.mark.parametrize("drop", [0.0, 0.01, -0.02])
def test_tango_covers(n: int, psi: float, drop: float) -> None:
    lowest = 0.93 if psi == abs(drop) else 0.94  # worst where every change has the same sign
    assert lowest <= frequencies.tango_coverage(n, psi, drop) <= 0.975


def test_the_known_coverage_of_tango_and_of_what_it_replaces() -> None:
    cells = (
        (200, 0.02, 0.958, 0.958, 0.902, 0.958),
        (200, 0.05, 0.957, 0.958, 0.929, 0.952),
        (600, 0.02, 0.956, 0.959, 0.934, 0.956),
        (600, 0.05, 0.948, 0.956, 0.948, 0.948),
    )
    for n, psi, tango, percentile, bca, wald in cells:
        assert frequencies.bca_coverage(n, psi, 0.0) == pytest.approx(bca, abs=0.0011)
        assert frequencies.wald_coverage(n, psi, 0.0) == pytest.approx(wald, abs=0.0011)
        assert frequencies.tango_coverage(n, psi, 0.0) == pytest.approx(tango, abs=0.0006)
        assert frequencies.percentile_coverage(n, psi, 0.0) == pytest.approx(percentile, abs=0.0011)


@pytest.mark.parametrize(("n", "psi"), [(50, 0.02), (200, 0.02), (200, 0.1), (600, 0.01), (600, 0.05), (1319, 0.092)])
def test_mid_p_keeps_its_level_and_is_less_timid_than_exact(n: int, psi: float) -> None:
    mid, exact = (frequencies.mcnemar_error(n, psi, mid=mid) for mid in (True, False))
    assert exact <= mid <= 0.05
    assert frequencies.mcnemar_error(n, psi, alpha=0.05 / 9) <= 0.05 / 9 * 1.02


def test_wilson_covers_where_the_bootstrap_does_not() -> None:
    assert frequencies.wilson_coverage(200, 0.99) == pytest.approx(0.948, abs=0.001)
    assert frequencies.bootstrap_share_coverage(200, 0.99) == pytest.approx(0.865, abs=0.001)
    assert frequencies.wilson_coverage(200, 0.995) > 0.915


@pytest.mark.parametrize("law", graded.LAWS.values(), ids=graded.LAWS)
def test_rare_large_losses_are_not_called_within(law: dict[int, float]) -> None:
    rng = np.random.default_rng(0)
    for n in (12, 24, 60, 100, 150, 400):
        counts = graded.drawn(rng, law, n, 2000)
        assert holds(frequencies.rate(graded.shown_by_gaffke(counts)), 0.0, 0.05)
        assert holds(frequencies.rate(frequencies.covered_by_gaffke(counts, 0.02)), 0.95, 1.0)


@pytest.mark.parametrize("law", graded.NULLS.values(), ids=graded.NULLS)
def test_graded_differences_that_are_not_there_are_not_found(law: dict[int, float]) -> None:
    rng = np.random.default_rng(1)
    for n in (24, 60, 200, 1000):
        assert holds(frequencies.rate(frequencies.called_different(graded.drawn(rng, law, n, 2000))), 0.0, 0.05)


def test_the_simulated_claims_are_those_of_a_comparison() -> None:
    rng = np.random.default_rng(2)
    for law in graded.LAWS.values():
        for n in (12, 150, 400):
            counts = graded.drawn(rng, law, n, 3)
            shown, different = graded.shown_by_gaffke(counts), frequencies.called_different(counts)
            for row, each in enumerate(counts):
                found = frequencies.compare_differences(np.repeat(frequencies.THIRDS, each))
                within = decide([found], 0.02)[0].verdict in (Verdict.within_margin, Verdict.worse_within_margin)
                if found.kind is Kind.binary:
                    continue  # bounded by Tango's
                assert within == shown[row]
                assert (found.p_value < 0.05) == different[row]


def test_graded_scores() -> None:
    rng = np.random.default_rng(0)
    for n, psi in ((100, 0.1), (200, 0.1), (600, 0.3)):
        for drop in (0.0, 0.02):
            covered, rejected, missed = frequencies.graded(rng, 1000, n, psi, drop)
            assert holds((covered[0], covered[1]), 0.95, 1.0)
            assert holds((missed[0], missed[1]), 0.0, 0.05)
            if drop == 0:
                assert holds((rejected[0], rejected[1]), 0.0, 0.05)
            elif n > 100:
                assert rejected[0] > 0.15


def test_three_like_answers_are_one() -> None:
    for psi in (0.05, 0.1):
        assert 0.22 < frequencies.mcnemar_error(200, psi, copies=3) < 0.27
        assert 0.035 < frequencies.mcnemar_error(200, psi) <= 0.05
    naive, averaged = frequencies.clustered_error(np.random.default_rng(2), 400, 200, 3)
    assert holds((naive[0], naive[1]), 0.18, 0.28)
    assert holds((averaged[0], averaged[1]), 0.0, 0.05)


def test_no_family_of_nine_calls_worse_what_is_not() -> None:
    for n, psi in ((200, 0.05), (600, 0.02), (600, 0.1)):
        assert frequencies.family_error(n, psi, 9) <= 0.025
    assert 1 - (1 - frequencies.mcnemar_error(600, 0.1)) ** 9 > 0.3


@pytest.mark.parametrize(("n", "psi", "drop"), [(200, 0.05, 0.02), (300, 0.03, 0.0)])
def test_the_verdict_has_the_power_and_the_errors_that_the_planner_says(n: int, psi: float, drop: float) -> None:
    def verdict(b: int, c: int) -> Verdict:
        return decide([frequencies.compare_counts(b, c, n)], frequencies.MARGIN)[0].verdict

    b, c, weight = frequencies.outcomes(n, psi, drop)
    verdicts = [verdict(*counts) for counts in zip(b.tolist(), c.tolist(), strict=True)]
    within = weight @ np.array([each in (Verdict.within_margin, Verdict.worse_within_margin) for each in verdicts])
    worse = weight @ np.array([each in (Verdict.worse, Verdict.worse_within_margin) for each in verdicts])
    assert within == pytest.approx(power_within(n, psi, frequencies.MARGIN, drop), abs=1e-7)
    if drop == 0:
        assert worse == pytest.approx(frequencies.mcnemar_error(n, psi) / 2, abs=1e-7)
    else:
        assert within <= 0.05


def worse_in_families(runs: int, *, n: int = 300) -> tuple[float, float]:
    """Rate of any "worse" among 3 tasks x 3 quants without a difference, the quants of a task changing alike."""
    rng = np.random.default_rng(5)
    any_worse = np.zeros(runs, dtype=bool)
    for run in range(runs):
        family = []
        for _ in range(3):
            shared = rng.random(n)
            for _ in range(3):
                # Two of three items are as on the other quants, the third is this quant's own.
                u = np.where(rng.random(n) < 2 / 3, shared, rng.random(n))
                b, c = int(np.count_nonzero(u < 0.05)), int(np.count_nonzero(u > 0.95))
                family.append(frequencies.compare_counts(b, c, n))
        decisions = decide(family, frequencies.MARGIN)
        any_worse[run] = any(each.verdict in (Verdict.worse, Verdict.worse_within_margin) for each in decisions)
    return frequencies.rate(any_worse)


def test_a_family_that_hangs_together() -> None:
    assert holds(worse_in_families(150), 0.0, 0.05)


@pytest.mark.slow
def test_a_family_that_hangs_together_many_times() -> None:
    share, error = worse_in_families(4000)
    assert 0.005 < share < 0.025 + 4 * error


def test_a_second_look_costs() -> None:
    rng = np.random.default_rng(6)
    within, worse = frequencies.two_looks(rng, 800, 200, 0.05, 0.02)
    assert 0.055 < within[0] < 0.12
    assert holds((worse[0], worse[1]), 0.7, 0.9)
    within, _ = frequencies.two_looks(rng, 400, 200, 0.05, 0.0)
    assert holds((within[0], within[1]), 0.8, 0.95)


@pytest.mark.parametrize("psi", [0.02, 0.05, 0.1])
def test_the_planner_reaches_its_power(psi: float) -> None:
    n = required_items_within(frequencies.MARGIN, psi)
    assert 0.8 <= power_within(n, psi, frequencies.MARGIN) < 0.82


def test_looking_often() -> None:
    n, psi = 400, 0.05
    assert frequencies.ever(frequencies.p_crossed(50), n, psi, 0.0) > 0.1
    assert frequencies.ever(frequencies.worse_crossed, n, psi, 0.0) < 0.025
    assert frequencies.ever(frequencies.within_crossed, n, psi, frequencies.MARGIN) < 0.05
    # One look at the end is the test itself.
    assert frequencies.ever(frequencies.p_crossed(n), n, psi, 0.0) == pytest.approx(frequencies.mcnemar_error(n, psi))


def test_the_posterior_by_frequencies() -> None:
    covered, _ = frequencies.credible_coverage(200, 0.02, 0.0)
    assert covered == pytest.approx(0.982, abs=0.003)
    said, share, error = frequencies.calibration(np.random.default_rng(3), 300, 600, 0.8, 1.1)
    assert holds((share, error), said - 0.03, said + 0.03)


def test_the_table() -> None:
    rows = [Row("a", "x", 0.9512), Row("b", "x", 0.05, 0.0034), Row("b", "y", 1.0)]
    assert simulation.markdown("Title", rows).splitlines() == [
        "**Title**",
        "",
        "|  | a | b |",
        "| --- | ---: | ---: |",
        "| x | 0.951 | 0.050 ± 0.003 |",
        "| y |  | 1.000 |",
    ]
