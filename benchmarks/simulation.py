"""How often the statistics are right: coverage, false claims and power, as Markdown tables.

Most figures are exact: sums over every outcome that is not negligible. The others are simulated from a fixed seed, and
the standard error of the simulation stands beside them.

    python benchmarks/simulation.py [--quick] [--seed 0]
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from frequencies import (
    MARGIN,
    bca_coverage,
    bootstrap_share_coverage,
    calibration,
    called_different,
    clustered_error,
    credible_coverage,
    ever,
    family_error,
    fixed_set,
    graded,
    mcnemar_error,
    p_crossed,
    percentile_coverage,
    rate,
    sequential_graded,
    tango_coverage,
    two_looks,
    wald_coverage,
    wilson_coverage,
    within_crossed,
    worse_crossed,
)
from graded import (
    LAWS,
    NULLS,
    drawn,
    false_within,
    planned,
    shown_by_betting,
    shown_by_bootstrap,
    shown_by_gaffke,
)

from quantexp.stats import (
    power_within,
    required_items_within,
)


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


def sections(rng: np.random.Generator, *, quick: bool) -> Iterator[tuple[str, Iterator[Row]]]:
    """Titles and their rows, in order."""
    runs = 400 if quick else 4000
    [own] = rng.spawn(1)  # what is drawn here moves no other table
    yield "Right or wrong: intervals and tests of the difference", binary_rows(quick=quick)
    yield "One accuracy", accuracy_rows(quick=quick)
    yield "Graded scores, in thirds", graded_rows(rng, runs, quick=quick)
    yield "“Within 2pp” when the drop is 2pp, by items' differences", rare_rows(own, runs, quick=quick)
    yield "“Within 2pp” when the drop is 0", price_rows(own, runs, quick=quick)
    yield "Graded differences that are not there", null_rows(own, runs, quick=quick)
    yield "Items answered three times, always alike: false differences", repeated_rows(rng, runs)
    yield "600 of a fixed set of 1,319 items, no difference", fixed_set_rows()
    yield "“Within 2pp”", within_rows(quick=quick)
    yield "After 200 items and, without a verdict, the further items that it asks for", further_rows(rng, runs)
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
            yield Row("percentile bootstrap", setting, percentile_coverage(n, psi, drop))
            yield Row("BCa", setting, bca_coverage(n, psi, drop))
            yield Row("Wald", setting, wald_coverage(n, psi, drop))
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
    """Gaffke's bounds and the test that belongs to them."""
    for n, psi in ((200, 0.1), (600, 0.1), (600, 0.3))[:: 3 if quick else 1]:
        for drop in (0.0, MARGIN):
            covered, rejected, missed = graded(rng, runs, n, psi, drop)
            setting = f"n={n}, ψ={psi:.0%}, drop {100 * drop:.0f}pp"
            yield Row("interval covers (0.95)", setting, *covered)
            yield Row("one-sided bound below the drop (0.05)", setting, *missed)
            yield Row("p ≤ 0.05", setting, *rejected)


def rare_rows(rng: np.random.Generator, runs: int, *, quick: bool) -> Iterator[Row]:
    """Claims of "within 2pp" at a drop of 2 points that comes from few large losses, beside other bounds."""
    for name, law in list(LAWS.items())[:: 4 if quick else 1]:
        for n in (12, 24, 60, 150, 400)[:: 2 if quick else 1]:
            found = false_within(rng, law, n, runs)
            yield Row("Gaffke (≤ 0.05)", f"{name}, n={n}", *found["Gaffke"])
            yield Row("e-value", f"{name}, n={n}", *found["betting"])
            yield Row("percentile bootstrap", f"{name}, n={n}", *found["bootstrap"])
            yield Row("Gaffke's interval covers (0.95)", f"{name}, n={n}", *found["covers"])


def price_rows(rng: np.random.Generator, runs: int, *, quick: bool) -> Iterator[Row]:
    """Yield the price of the bound where nothing is lost."""
    law = {1: 0.02, -1: 0.02}
    for n in (100, 150, 200, 300, 400)[:: 2 if quick else 1]:
        counts = drawn(rng, law, n, runs)
        setting = f"±⅓: 2% each, n={n}"
        yield Row("Gaffke", setting, *rate(shown_by_gaffke(counts)))
        yield Row("e-value", setting, *rate(shown_by_betting(rng, counts[: runs // 8])))
        yield Row("percentile bootstrap", setting, *rate(shown_by_bootstrap(counts[: runs // 2])))
    for name, each in {
        "±⅓: 2% each": law,
        "±⅓: 5% each": {1: 0.05, -1: 0.05},
        "±1: 1% each": {3: 0.01, -3: 0.01},
    }.items():
        n, power = planned(rng, each, runs)
        yield Row("Gaffke", f"{name}, n={n} (planner, for 0.80)", *power)


def null_rows(rng: np.random.Generator, runs: int, *, quick: bool) -> Iterator[Row]:
    """Differences that are not there, where gains and losses have different sizes."""
    for name, law in list(NULLS.items())[:: 2 if quick else 1]:
        for n in (60, 200, 1000)[:: 2 if quick else 1]:
            yield Row("p ≤ 0.05 (≤ 0.05)", f"{name}, n={n}", *rate(called_different(drawn(rng, law, n, runs))))


def repeated_rows(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """Yield rows about the unit."""
    for psi in (0.05, 0.1):
        setting = f"200 items, right or wrong, ψ={psi:.0%}"
        yield Row("counted as 600", setting, mcnemar_error(200, psi, copies=3))
        yield Row("an item once (≤ 0.05)", setting, mcnemar_error(200, psi))
    naive, averaged = clustered_error(rng, runs, 200, 3)
    yield Row("counted as 600", "200 items, thirds, ψ=10%", *naive)
    yield Row("an item once (≤ 0.05)", "200 items, thirds, ψ=10%", *averaged)


def fixed_set_rows() -> Iterator[Row]:
    """Yield rows about the finite population correction."""
    for declared in (False, True):
        covered, rejected = fixed_set(600, 1319, 0.05, declared=declared)
        setting = f"ψ=5%, population {'declared' if declared else 'not declared'}"
        yield Row("Tango covers (0.95)", setting, covered)
        yield Row("mid-p ≤ 0.05", setting, rejected)


def within_rows(*, quick: bool) -> Iterator[Row]:
    """Yield false claims at the margin, and power at the planner's number of items."""
    for psi in (0.02, 0.05, 0.1)[:: 2 if quick else 1]:
        closed, exact = (required_items_within(MARGIN, psi, exact=each) for each in (False, True))
        for name, n in (("the first n that can", 133), ("closed form", closed), ("planner", exact)):
            setting = f"ψ={psi:.0%}, n={n:,} ({name})"
            yield Row("claimed when the drop is 2pp (≤ 0.05)", setting, power_within(n, psi, MARGIN, MARGIN))
            yield Row("claimed when the drop is 0 (0.80 at the planner's n)", setting, power_within(n, psi, MARGIN))


def further_rows(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """Yield the use of "further items", and the price of the second look."""
    for psi in (0.05, 0.1):
        for drop in (0.0, MARGIN, 2 * MARGIN):
            within, worse = two_looks(rng, runs, 200, psi, drop)
            setting = f"ψ={psi:.0%}, drop {100 * drop:.0f}pp"
            yield Row("“within 2pp”", setting, *within)
            yield Row("“worse”", setting, *worse)


def family_rows(*, quick: bool) -> Iterator[Row]:
    """Holm's method."""
    for n, psi in ((200, 0.05), (600, 0.05), (600, 0.1))[:: 2 if quick else 1]:
        setting = f"n={n}, ψ={psi:.0%}"
        yield Row("any called worse, Holm (≤ 0.05)", setting, family_error(n, psi, 9))
        yield Row("any p ≤ 0.05, uncorrected", setting, 1 - (1 - mcnemar_error(n, psi)) ** 9)


def sequential_rows(rng: np.random.Generator, *, quick: bool) -> Iterator[Row]:
    """Yield e-values after every item, beside p-values after every 50."""
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
    """Return a titled Markdown table, a line for each setting; a simulated value has its standard error after it."""
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
