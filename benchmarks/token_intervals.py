"""How often the intervals of divergence hold the truth, over sets of items with heavy-tailed tokens.

python benchmarks/token_intervals.py [--runs 400]
"""

import argparse
import math
import sys

import numpy as np
from scipy.special import ndtri

from quantexp.stats import divergence_summary

ITEM, TOKEN, CENTRE = 0.8, 1.0, -3.0
"""Standard deviations of the logarithm of a divergence between and within items, and its mean."""

FIGURES = {"mean": None, "median": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def covered(items: int, runs: int, each: int = 50) -> dict[str, float | None]:
    """Share of runs whose interval holds the truth, by figure; None where there was no interval."""
    spread = math.hypot(ITEM, TOKEN)
    truth = {
        name: math.exp(CENTRE + (spread**2 / 2 if share is None else spread * float(ndtri(share))))
        for name, share in FIGURES.items()
    }
    held: dict[str, list[bool]] = {name: [] for name in FIGURES}
    for run in range(runs):
        rng = np.random.default_rng(run)
        kl = np.exp(rng.normal(0, ITEM, items).repeat(each) + rng.normal(CENTRE, TOKEN, items * each))
        of = np.arange(items).repeat(each)
        found = divergence_summary(kl, kl < 0.1, -kl, -2 * kl, of, resamples=300, seed=run)
        for name, true in truth.items():
            interval = getattr(found, name)
            if math.isfinite(interval.low):
                held[name].append(interval.low <= true <= interval.high)
    return {name: float(np.mean(each)) if each else None for name, each in held.items()}


def main() -> None:
    """Print a row for each number of items."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    options = parser.parse_args()
    sys.stdout.write(f"| items | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}\n")
    for items in (10, 20, 50, 200):
        cells = ["–" if each is None else f"{each:.2f}" for each in covered(items, options.runs).values()]
        sys.stdout.write(f"| {items} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
