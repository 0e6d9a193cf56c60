"""How often the statistics are right: coverage, false claims and power, as Markdown tables.

Most figures are exact: sums over every outcome that is not negligible. The others are simulated from a fixed seed, and
the standard error of the simulation stands beside them.

    python benchmarks/simulation.py [--quick] [--seed 0]
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln
from scipy.stats import binom, multivariate_hypergeom

from quantexp.stats import (
    PairedComparison,
    compare,
    drop_posterior,
    exact_bootstrap_law,
    mcnemar_p,
    power_within,
    required_items_within,
    sequential_decision,
    tango_interval,
    wilson_interval,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA = 0.05
MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """One measured property.

    Attributes:
        what: The property, and in brackets what it should be.
        setting: Under which truth, with how many items.
        value: What it is.
        error: Standard error of the simulation; None if the value is exact.
    """

    what: str
    setting: str
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


def compare_counts(b: int, c: int, n: int, *, population: int | None = None) -> PairedComparison:
    """The default comparison of right-or-wrong scores with these counts."""
    lost, gained = np.repeat([1.0, 0.0, 0.0], [b, c, n - b - c]), np.repeat([0.0, 1.0, 0.0], [b, c, n - b - c])
    return compare(lost, gained, population=population)


def compare_differences(values: Floats, clusters: Integers | None = None) -> PairedComparison:
    """The default comparison of scores with these differences."""
    return compare(np.maximum(values, 0), np.maximum(-values, 0), clusters=clusters)


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
        found = compare_differences(values)
        covered[run] = covers((found.low, found.high), drop)
        missed[run] = found.upper < drop
        rejected[run] = found.p_value <= ALPHA
    return np.array(rate(covered)), np.array(rate(rejected)), np.array(rate(missed))


def clustered_error(rng: np.random.Generator, runs: int, items: int, repeats: int) -> tuple[Floats, Floats]:
    """Graded scores, every item answered `repeats` times alike: false differences naive, and averaged within the item.

    Each is a share and its standard error.
    """
    naive, averaged = (np.zeros(runs, dtype=bool) for _ in range(2))
    for run, values in enumerate(graded_differences(rng, runs, items, 0.1, 0.0)):
        answers, ids = np.repeat(values, repeats), np.repeat(np.arange(items), repeats)
        naive[run] = compare_differences(answers).p_value <= ALPHA
        averaged[run] = compare_differences(answers, ids).p_value <= ALPHA
    return np.array(rate(naive)), np.array(rate(averaged))


def fixed_set(n: int, size: int, psi: float, *, declared: bool) -> tuple[float, float]:
    """Coverage and rate of p <= 5% when n different items are drawn from a fixed set without a difference, exact.

    `declared` says whether the comparison is told that the result is about that set only.
    """
    each = round(size * psi / 2)
    b, c, _ = outcomes(n, psi, 0.0)
    counts = np.stack([b, c, n - b - c], axis=1)
    weight = np.atleast_1d(multivariate_hypergeom.pmf(counts, [each, each, size - 2 * each], n))
    kept = weight > 1e-8
    covered = rejected = 0.0
    for one, other, probability in zip(b[kept].tolist(), c[kept].tolist(), weight[kept].tolist(), strict=True):
        found = compare_counts(one, other, n, population=size if declared else None)
        covered += probability * covers((found.low, found.high), 0.0)
        rejected += probability * (found.p_value <= ALPHA)
    return covered, rejected


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


def sections(rng: np.random.Generator, *, quick: bool) -> Iterator[tuple[str, Iterator[Row]]]:
    """Titles and their rows, in order."""
    runs = 400 if quick else 4000
    yield "Right or wrong: intervals and tests of the difference", binary_rows(quick=quick)
    yield "One accuracy", accuracy_rows(quick=quick)
    yield "Graded scores, thirds of a point", graded_rows(rng, runs, quick=quick)
    yield "Items answered three times, always alike: false differences", repeated_rows(rng, runs)
    yield "600 of a fixed set of 1,319 items, no difference", fixed_set_rows()
    yield "“Within 2pp”", within_rows(quick=quick)
    yield "Nine comparisons, none with a difference", family_rows(quick=quick)
    yield "Looking all the time", sequential_rows(rng, quick=quick)
    yield "The posterior, judged by frequencies", posterior_rows(quick=quick)
    yield "Of 600 items: what the posterior says, and what is true", calibration_rows(rng, quick=quick)


def binary_rows(*, quick: bool) -> Iterator[Row]:
    """Tango's interval and McNemar's mid-p, beside what they replace."""
    for n, psi in [(200, 0.02), (200, 0.05), (600, 0.02), (600, 0.05), (600, 0.1)][:: 2 if quick else 1]:
        for drop in (0.0, 0.01, MARGIN):
            setting = f"n={n}, ψ={psi:.0%}, drop {100 * drop:.0f}pp"
            yield Row("Tango covers (0.95)", setting, tango_coverage(n, psi, drop))
            yield Row("percentile bootstrap covers (0.95)", setting, percentile_coverage(n, psi, drop))
            if drop == 0:
                yield Row("mid-p ≤ 0.05", setting, mcnemar_error(n, psi))
                yield Row("exact p ≤ 0.05", setting, mcnemar_error(n, psi, mid=False))


def accuracy_rows(*, quick: bool) -> Iterator[Row]:
    """Wilson's interval of one accuracy, beside the bootstrap."""
    for n, share in ((200, 0.5), (200, 0.95), (200, 0.99), (200, 0.995))[:: 3 if quick else 1]:
        setting = f"n={n}, accuracy {share:.1%}"
        yield Row("Wilson covers (0.95)", setting, wilson_coverage(n, share))
        yield Row("percentile bootstrap covers (0.95)", setting, bootstrap_share_coverage(n, share))


def graded_rows(rng: np.random.Generator, runs: int, *, quick: bool) -> Iterator[Row]:
    """The percentile bootstrap and the sign-flip test."""
    for n, psi in ((200, 0.1), (600, 0.1), (600, 0.3))[:: 3 if quick else 1]:
        for drop in (0.0, MARGIN):
            covered, rejected, missed = graded(rng, runs, n, psi, drop)
            setting = f"n={n}, ψ={psi:.0%}, drop {100 * drop:.0f}pp"
            yield Row("bootstrap covers (0.95)", setting, *covered)
            yield Row("one-sided bound below the drop (0.05)", setting, *missed)
            yield Row("sign-flip p ≤ 0.05", setting, *rejected)


def repeated_rows(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """The unit."""
    for psi in (0.05, 0.1):
        setting = f"200 items, right or wrong, ψ={psi:.0%}"
        yield Row("counted as 600", setting, mcnemar_error(200, psi, copies=3))
        yield Row("an item once (≤ 0.05)", setting, mcnemar_error(200, psi))
    naive, averaged = clustered_error(rng, runs, 200, 3)
    yield Row("counted as 600", "200 items, thirds, ψ=10%", *naive)
    yield Row("an item once (≤ 0.05)", "200 items, thirds, ψ=10%", *averaged)


def fixed_set_rows() -> Iterator[Row]:
    """The finite population correction."""
    for declared in (False, True):
        covered, rejected = fixed_set(600, 1319, 0.05, declared=declared)
        setting = f"ψ=5%, population {'declared' if declared else 'not declared'}"
        yield Row("Tango covers (0.95)", setting, covered)
        yield Row("mid-p ≤ 0.05", setting, rejected)


def within_rows(*, quick: bool) -> Iterator[Row]:
    """False claims at the margin, and power at the planner's number of items."""
    for psi in (0.02, 0.05, 0.1)[:: 2 if quick else 1]:
        closed, exact = (required_items_within(MARGIN, psi, exact=each) for each in (False, True))
        for name, n in (("the first n that can", 133), ("closed form", closed), ("planner", exact)):
            setting = f"ψ={psi:.0%}, n={n:,} ({name})"
            yield Row("claimed when the drop is 2pp (≤ 0.05)", setting, power_within(n, psi, MARGIN, MARGIN))
            yield Row("claimed when the drop is 0 (0.80 at the planner's n)", setting, power_within(n, psi, MARGIN))


def family_rows(*, quick: bool) -> Iterator[Row]:
    """Holm's method."""
    for n, psi in ((200, 0.05), (600, 0.05), (600, 0.1))[:: 2 if quick else 1]:
        setting = f"n={n}, ψ={psi:.0%}"
        yield Row("any called worse, Holm (≤ 0.05)", setting, family_error(n, psi, 9))
        yield Row("any p ≤ 0.05, uncorrected", setting, 1 - (1 - mcnemar_error(n, psi)) ** 9)


def sequential_rows(rng: np.random.Generator, *, quick: bool) -> Iterator[Row]:
    """E-values after every item, beside p-values after every 50."""
    n = 400 if quick else 1319
    false_worse, false_within = "e-value: false “worse” (≤ 0.05)", "e-value: “within 2pp” at 2pp (≤ 0.05)"
    for psi in (0.05,) if quick else (0.05, 0.092):
        setting = f"up to {n:,} items, ψ={psi:.1%}"
        yield Row("mid-p every 50 items: false difference", setting, ever(p_crossed(50), n, psi, 0))
        yield Row(false_worse, setting, ever(worse_crossed, n, psi, 0))
        yield Row(false_within, setting, ever(within_crossed, n, psi, MARGIN))
        yield Row("e-value: “within 2pp” at 0", setting, ever(within_crossed, n, psi, 0))
        yield Row("e-value: “worse” at 3.2pp", setting, ever(worse_crossed, n, psi, 0.032))
    worse, within = sequential_graded(rng, 200 if quick else 2000, n)
    setting = f"up to {n:,} items, thirds, ψ=10%"
    yield Row(false_worse, setting, *worse)
    yield Row(false_within, setting, *within)


def posterior_rows(*, quick: bool) -> Iterator[Row]:
    """Credible intervals and claims at one truth."""
    for n, psi in ((200, 0.02), (200, 0.05), (600, 0.05))[:: 3 if quick else 1]:
        covered, _ = credible_coverage(n, psi, 0.0)
        _, claimed = credible_coverage(n, psi, MARGIN)
        setting = f"n={n}, ψ={psi:.0%}"
        yield Row("95% credible interval covers a drop of 0", setting, covered)
        yield Row("P(drop < 2pp) ≥ 95% when the drop is 2pp", setting, claimed)


def calibration_rows(rng: np.random.Generator, *, quick: bool) -> Iterator[Row]:
    """Whether "90% sure" is right nine times out of ten."""
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.1)):
        said, share, error = calibration(rng, 400 if quick else 3000, 600, low, high)
        setting = f"P(drop < 2pp) from {low:.2f} to {min(high, 1):.2f}"
        yield Row("says on average", setting, said)
        yield Row("drop truly below 2pp", setting, share, error)


def markdown(title: str, rows: Iterable[Row]) -> str:
    """A titled Markdown table, a line for each setting; a simulated value has its standard error after it."""
    lines: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        columns[row.what] = None
        value = f"{row.value:.3f}" + ("" if row.error is None else f" ± {row.error:.3f}")
        lines.setdefault(row.setting, {})[row.what] = value
    table = [["", *columns], ["---", *["---:"] * len(columns)]]
    table += [[setting, *(values.get(column, "") for column in columns)] for setting, values in lines.items()]
    return "\n".join([f"**{title}**", "", *(f"| {' | '.join(cells)} |" for cells in table)])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer settings and simulations")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    tables = [markdown(title, rows) for title, rows in sections(rng, quick=options.quick)]
    sys.stdout.write("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
