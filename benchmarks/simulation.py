"""How often the statistics are right: coverage, false claims and power, as a Markdown table.

Most figures are exact: sums over every outcome that is not negligible. The others are simulated from a fixed seed, and
the standard error of the simulation stands beside them.

    python benchmarks/simulation.py [--quick] [--seed 0]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln
from scipy.stats import binom

from quantexp.stats import (
    drop_posterior,
    exact_bootstrap_law,
    mcnemar_p,
    power_within,
    required_items_within,
    sequential_decision,
    tango_interval,
    wilson_interval,
)
from quantexp.stats.graded import bootstrap_bounds, sign_flip_p

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA = 0.05
MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """One measured property.

    Attributes:
        what: The property.
        setting: Under which truth, with how many items.
        nominal: What it should be.
        value: What it is.
        error: Standard error of the simulation; None if the value is exact.
    """

    what: str
    setting: str
    nominal: str
    value: float
    error: float | None = None


def outcomes(n: int, psi: float, drop: float) -> tuple[Integers, Integers, Floats]:
    """Every b and c that is not negligible, and its probability; what is left out has less than 1e-8 in all."""
    losses, gains = (psi + drop) / 2, (psi - drop) / 2
    b = np.arange(int(binom.ppf(1e-10, n, losses)), int(binom.isf(1e-10, n, losses)) + 1)
    c = np.arange(int(binom.ppf(1e-10, n, gains)), int(binom.isf(1e-10, n, gains)) + 1)
    all_b, all_c = (each.ravel() for each in np.meshgrid(b, c, indexing="ij"))
    possible = all_b + all_c <= n
    all_b, all_c = all_b[possible], all_c[possible]
    # c given b: Binomial(n - b) with the share that gains have among what is not a loss.
    share = gains / (1 - losses) if losses < 1 else 0.0
    weight = binom.pmf(all_b, n, losses) * binom.pmf(all_c, n - all_b, share)
    kept = weight > 1e-14
    return all_b[kept], all_c[kept], weight[kept]


def expected(n: int, psi: float, drop: float, event: Callable[[int, int], bool]) -> float:
    """Probability of an event that depends on b and c."""
    b, c, weight = outcomes(n, psi, drop)
    happens = [event(one, other) for one, other in zip(b.tolist(), c.tolist(), strict=True)]
    return float(weight @ np.array(happens, dtype=float))


def rate(happened: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of simulations, and its standard error (never 0, so that 0 of 1,000 is not taken for certain)."""
    share = float(happened.mean())
    smoothed = (happened.sum() + 1) / (happened.size + 2)
    return share, float(np.sqrt(smoothed * (1 - smoothed) / happened.size))


def covers(interval: tuple[float, float], truth: float) -> bool:
    """Whether an interval holds the truth, ends included."""
    return interval[0] - 1e-12 <= truth <= interval[1] + 1e-12


def tango_coverage(n: int, psi: float, drop: float) -> float:
    """Coverage of the default interval of a right-or-wrong difference, exact."""
    return expected(n, psi, drop, lambda b, c: covers(tango_interval(b, c, n), drop))


def percentile_coverage(n: int, psi: float, drop: float) -> float:
    """The same of the percentile bootstrap with infinitely many resamples, exact."""
    return expected(n, psi, drop, lambda b, c: covers(exact_bootstrap_law(b, c, n).interval(), drop))


def mcnemar_error(n: int, psi: float, *, mid: bool = True, alpha: float = ALPHA, copies: int = 1) -> float:
    """Rate of p <= alpha without a difference, exact; `copies` counts every item so many times, as if independent."""
    b, c, weight = outcomes(n, psi, 0.0)
    return float(weight[mcnemar_p(copies * b, copies * c, mid=mid) <= alpha].sum())


def wilson_coverage(n: int, share: float) -> float:
    """Coverage of the interval of one accuracy, exact."""
    right = np.arange(n + 1)
    inside = [covers(wilson_interval(k, n), share) for k in right.tolist()]
    return float(binom.pmf(right, n, share) @ np.array(inside, dtype=float))


def bootstrap_share_coverage(n: int, share: float) -> float:
    """The same of the percentile bootstrap with infinitely many resamples, exact."""
    right = np.arange(n + 1)
    low, high = (binom.ppf(tail, n, right / n) / n for tail in (0.025, 0.975))
    inside = (low <= share + 1e-12) & (share <= high + 1e-12)
    return float(binom.pmf(right, n, share) @ inside)


def graded_differences(rng: np.random.Generator, runs: int, n: int, psi: float, drop: float) -> Floats:
    """Differences of scores out of three fields, shape (runs, n), with this mean.

    A share psi of the items changes: two thirds of those by one field, a quarter by two, the rest by three.
    """
    fields = rng.choice([1, 2, 3], size=(runs, n), p=[2 / 3, 1 / 4, 1 / 12])
    mean_size = (2 / 3 + 2 / 4 + 3 / 12) / 3
    sign = np.where(rng.random((runs, n)) < (1 + drop / (psi * mean_size)) / 2, 1, -1)
    differences: Floats = np.where(rng.random((runs, n)) < psi, sign * fields, 0) / 3
    return differences


def graded(rng: np.random.Generator, runs: int, n: int, psi: float, drop: float) -> tuple[Floats, Floats, Floats]:
    """The defaults on graded scores: the interval's coverage, the test's rate of p <= 5%, the one-sided bound's misses.

    Each is a share and its standard error, shape (2,).
    """
    covered, rejected, missed = (np.zeros(runs, dtype=bool) for _ in range(3))
    for run, values in enumerate(graded_differences(rng, runs, n, psi, drop)):
        bounds = bootstrap_bounds(values)
        covered[run] = covers((bounds.low, bounds.high), drop)
        missed[run] = bounds.upper < drop
        rejected[run] = sign_flip_p(values)[0] <= ALPHA
    return np.array(rate(covered)), np.array(rate(rejected)), np.array(rate(missed))


def clustered_error(rng: np.random.Generator, runs: int, items: int, repeats: int) -> tuple[Floats, Floats]:
    """Graded scores, every item answered `repeats` times alike: false differences naive, and averaged within the item.

    Each is a share and its standard error.
    """
    naive, averaged = (np.zeros(runs, dtype=bool) for _ in range(2))
    for run, values in enumerate(graded_differences(rng, runs, items, 0.1, 0.0)):
        naive[run] = sign_flip_p(np.repeat(values, repeats))[0] <= ALPHA
        averaged[run] = sign_flip_p(values)[0] <= ALPHA
    return np.array(rate(naive)), np.array(rate(averaged))


def family_error(n: int, psi: float, comparisons: int) -> float:
    """Probability that any of so many independent comparisons without a difference is called worse, exact.

    Holm's method calls something significant if and only if the smallest p is at most alpha / comparisons.
    """
    b, c, weight = outcomes(n, psi, 0.0)
    worse = weight[(mcnemar_p(b, c) <= ALPHA / comparisons) & (b > c)].sum()
    return float(1 - (1 - worse) ** comparisons)


Crossed = Callable[[int, Integers, Integers], NDArray[np.bool_]]


def ever(crossed: Crossed, n: int, psi: float, drop: float) -> float:
    """Probability that a rule on (items so far, b, c) ever says yes, asked after every item: exact."""
    size = int(n * psi + 10 * np.sqrt(n * psi)) + 3
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    state = np.zeros((size, size))
    state[0, 0] = 1.0
    reached = 0.0
    for items in range(1, n + 1):
        moved = state * (1 - psi)
        moved[1:] += (psi + drop) / 2 * state[:-1]
        moved[:, 1:] += (psi - drop) / 2 * state[:, :-1]
        yes = crossed(items, b, c)
        reached += float(moved[yes].sum())
        state = np.where(yes, 0.0, moved)
    return reached


@cache
def _difference_crossed(size: int) -> NDArray[np.bool_]:
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    wealth = (b + c) * np.log(2) + betaln(b + 5, c + 5) - betaln(5, 5)
    return np.asarray((wealth >= np.log(1 / ALPHA)) & (b > c))


def worse_crossed(items: int, b: Integers, c: Integers) -> NDArray[np.bool_]:
    """Whether the e-value calls the quant worse, by its closed form."""
    return _difference_crossed(b.shape[0])


def within_crossed(items: int, b: Integers, c: Integers) -> NDArray[np.bool_]:
    """Whether the e-value calls the drop within the margin, by its definition."""
    wealth = np.zeros(b.shape)
    stakes = np.geomspace(0.05, 0.95, 8) / (1 - MARGIN)
    for stake in stakes:
        same, lost, gained = np.log1p(stake * (MARGIN - np.array([0.0, 1.0, -1.0])))
        wealth += np.exp(items * same + b * (lost - same) + c * (gained - same)) / stakes.size
    return wealth >= 1 / ALPHA


@cache
def _p_crossed(size: int) -> NDArray[np.bool_]:
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    return np.asarray(mcnemar_p(b, c) <= ALPHA)


def p_crossed(every: int) -> Crossed:
    """Whether mid-p is at most alpha, looked at after every so many items."""

    def crossed(items: int, b: Integers, c: Integers) -> NDArray[np.bool_]:
        return _p_crossed(b.shape[0]) if items % every == 0 else np.zeros(b.shape, dtype=bool)

    return crossed


def sequential_graded(rng: np.random.Generator, runs: int, n: int) -> tuple[Floats, Floats]:
    """Graded scores: rate of "worse" without a difference, and of "within" at the margin; with standard errors."""
    worse, within = (np.zeros(runs, dtype=bool) for _ in range(2))
    none, at_margin = (graded_differences(rng, runs, n, 0.1, drop) for drop in (0.0, MARGIN))
    for run in range(runs):
        worse[run] = sequential_decision(none[run], margin=MARGIN).verdict == "worse"
        within[run] = sequential_decision(at_margin[run], margin=MARGIN).verdict == "within"
    return np.array(rate(worse)), np.array(rate(within))


def credible_coverage(n: int, psi: float, drop: float) -> tuple[float, float]:
    """Coverage of the credible interval, and the rate of P(drop < margin) >= 95%: exact, at one truth."""
    b, c, weight = outcomes(n, psi, drop)
    kept = weight > 1e-7
    covered = claimed = 0.0
    for one, other, probability in zip(b[kept].tolist(), c[kept].tolist(), weight[kept].tolist(), strict=True):
        posterior = drop_posterior(one, other, n, margin=MARGIN)
        covered += probability * covers((posterior.low, posterior.high), drop)
        claimed += probability * (posterior.within >= 1 - ALPHA)
    return covered, claimed


def calibration(rng: np.random.Generator, runs: int, n: int, low: float, high: float) -> tuple[float, float, float]:
    """Of the comparisons with low <= P(drop < margin) < high: mean of that P, share truly below, standard error.

    True shares of changes are uniform from 1% to 15% and true drops normal around 1 point, standard deviation 1.5
    points, cut to what the changes allow: a world that the prior does not know.
    """
    psi = rng.uniform(0.01, 0.15, runs)
    drop = np.clip(rng.normal(0.01, 0.015, runs), -psi, psi)
    said, true = [], []
    for changes, loss in zip(psi, drop, strict=True):
        b, c, _ = rng.multinomial(n, [(changes + loss) / 2, (changes - loss) / 2, 1 - changes])
        within = drop_posterior(int(b), int(c), n, margin=MARGIN).within
        if low <= within < high:
            said.append(within)
            true.append(loss < MARGIN)
    share, error = rate(np.array(true))
    return float(np.mean(said)), share, error


def rows(rng: np.random.Generator, *, quick: bool) -> Iterator[Row]:
    """All rows, in order."""
    runs = 400 if quick else 4000
    cells = [(200, 0.02), (200, 0.05), (600, 0.02), (600, 0.05), (600, 0.1)][:: 2 if quick else 1]
    for n, psi in cells:
        setting = f"n={n}, ψ={psi:.0%}"
        for drop in (0.0, MARGIN / 2, MARGIN):
            at = f"{setting}, drop {100 * drop:.0f}pp"
            yield Row("Tango 95% interval: coverage", at, "0.95", tango_coverage(n, psi, drop))
            yield Row("percentile bootstrap 95%: coverage", at, "0.95", percentile_coverage(n, psi, drop))
        yield Row("McNemar mid-p: false differences", setting, "≤ 0.05", mcnemar_error(n, psi))
        yield Row("McNemar exact p: false differences", setting, "≤ 0.05", mcnemar_error(n, psi, mid=False))
    for n, share in ((200, 0.5), (200, 0.95), (200, 0.99), (200, 0.995))[:: 3 if quick else 1]:
        setting = f"n={n}, accuracy {share:.1%}"
        yield Row("Wilson 95% interval: coverage", setting, "0.95", wilson_coverage(n, share))
        yield Row("percentile bootstrap of one accuracy: coverage", setting, "0.95", bootstrap_share_coverage(n, share))
    for n, psi in ((200, 0.1), (600, 0.1), (600, 0.3))[:: 3 if quick else 1]:
        for drop in (0.0, MARGIN):
            covered, rejected, missed = graded(rng, runs, n, psi, drop)
            setting = f"thirds, n={n}, ψ={psi:.0%}, drop {100 * drop:.0f}pp"
            yield Row("graded bootstrap 95%: coverage", setting, "0.95", *covered)
            yield Row("graded one-sided 95% bound: misses", setting, "0.05", *missed)
            if drop == 0:
                yield Row("graded sign-flip: false differences", setting, "≤ 0.05", *rejected)
            else:
                yield Row("graded sign-flip: power", setting, "", *rejected)
    for psi in (0.05, 0.1):
        setting = f"200 items × 3 like answers, ψ={psi:.0%}"
        yield Row("counted as 600: false differences (mid-p)", setting, "0.05", mcnemar_error(200, psi, copies=3))
        yield Row("an item once: false differences (mid-p)", setting, "≤ 0.05", mcnemar_error(200, psi))
    naive, averaged = clustered_error(rng, runs, 200, 3)
    setting = "200 items × 3 like answers, thirds, ψ=10%"
    yield Row("counted as 600: false differences (sign-flip)", setting, "0.05", *naive)
    yield Row("an item once: false differences (sign-flip)", setting, "≤ 0.05", *averaged)
    yield from verdict_rows(quick=quick)
    for psi in (0.02, 0.05, 0.1)[:: 2 if quick else 1]:
        n = required_items_within(MARGIN, psi)
        closed = required_items_within(MARGIN, psi, exact=False)
        setting = f"ψ={psi:.0%}, drop 0"
        yield Row("power of “within 2pp” at the planner's n", f"n={n}, {setting}", "0.80", power_within(n, psi, MARGIN))
        at_closed = power_within(closed, psi, MARGIN)
        yield Row("the same at the closed form's n", f"n={closed}, {setting}", "0.80", at_closed)
    yield from sequential_rows(rng, quick=quick)
    yield from bayes_rows(rng, quick=quick)


def verdict_rows(*, quick: bool) -> Iterator[Row]:
    """Error rates of the verdict."""
    for n, psi in ((133, 0.02), (600, 0.02), (600, 0.05), (600, 0.1), (2000, 0.05))[:: 4 if quick else 1]:
        at_margin = power_within(n, psi, MARGIN, MARGIN)
        yield Row("“within 2pp” when the drop is 2pp", f"n={n}, ψ={psi:.0%}", "≤ 0.05", at_margin)
    for n, psi in ((200, 0.05), (600, 0.05), (600, 0.1))[:: 2 if quick else 1]:
        setting = f"9 comparisons, n={n}, ψ={psi:.0%}"
        yield Row("any “worse” without a difference, Holm", setting, "≤ 0.05", family_error(n, psi, 9))
        alone = 1 - (1 - mcnemar_error(n, psi)) ** 9
        yield Row("any p ≤ 0.05 without a difference, uncorrected", setting, "≤ 0.05", alone)


def sequential_rows(rng: np.random.Generator, *, quick: bool) -> Iterator[Row]:
    """Looking all the time, by e-values and by p-values."""
    n = 400 if quick else 1319
    for psi in (0.05,) if quick else (0.05, 0.092):
        setting = f"up to {n} items, ψ={psi:.1%}"
        yield Row(
            "mid-p looked at every 50 items: false differences", setting, "≤ 0.05", ever(p_crossed(50), n, psi, 0)
        )
        yield Row("e-value, every item: false “worse”", setting, "≤ 0.05", ever(worse_crossed, n, psi, 0))
        at_margin = ever(within_crossed, n, psi, MARGIN)
        yield Row("e-value, every item: “within 2pp” when the drop is 2pp", setting, "≤ 0.05", at_margin)
        yield Row("e-value: “within 2pp” when the drop is 0", setting, "", ever(within_crossed, n, psi, 0))
        yield Row("e-value: “worse” when the drop is 3.2pp", setting, "", ever(worse_crossed, n, psi, 0.032))
    worse, within = sequential_graded(rng, 200 if quick else 2000, n)
    setting = f"thirds, up to {n} items, ψ=10%"
    yield Row("e-value, every item: false “worse”", setting, "≤ 0.05", *worse)
    yield Row("e-value, every item: “within 2pp” when the drop is 2pp", setting, "≤ 0.05", *within)


def bayes_rows(rng: np.random.Generator, *, quick: bool) -> Iterator[Row]:
    """The posterior, judged by frequencies."""
    for n, psi in ((200, 0.02), (200, 0.05), (600, 0.05))[:: 3 if quick else 1]:
        setting = f"n={n}, ψ={psi:.0%}"
        covered, _ = credible_coverage(n, psi, 0.0)
        _, claimed = credible_coverage(n, psi, MARGIN)
        yield Row("95% credible interval: coverage", f"{setting}, drop 0", "0.95", covered)
        yield Row("P(drop < 2pp) ≥ 95% when the drop is 2pp", setting, "0.05", claimed)
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.1)):
        said, share, error = calibration(rng, 400 if quick else 3000, 600, low, high)
        setting = f"n=600, posterior says {said:.2f} on average"
        yield Row("share truly below 2pp", setting, f"{said:.2f}", share, error)


def markdown(table: list[Row]) -> str:
    """The rows as a Markdown table; a simulated value has its standard error after it."""
    lines = ["| what | setting | nominal | measured |", "|---|---|---|---|"]
    for row in table:
        value = f"{row.value:.3f}" + ("" if row.error is None else f" ± {row.error:.3f}")
        lines.append(f"| {row.what} | {row.setting} | {row.nominal} | {value} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer settings and simulations")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.write(markdown(list(rows(np.random.default_rng(options.seed), quick=options.quick))) + "\n")


if __name__ == "__main__":
    main()
