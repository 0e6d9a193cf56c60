"""How often the pool of several tasks, and the summary over several models, are right: tables for the statistics page.

python benchmarks/pooling.py           # some minutes
python benchmarks/pooling.py --quick   # in seconds
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from quantexp.stats import measure_heterogeneity, pool, random_effects

MARGIN = 0.02


@dataclass(frozen=True)
class Task:
    """A task of which a share of items changes.

    Attributes:
        n: Items.
        changed: Share of them that changes.
        drop: Mean of baseline minus quant; at most `changed`.
        step: Size of a change: 1 for right or wrong, less for graded scores.
    """

    n: int
    changed: float
    drop: float
    step: float = 1.0

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw the items' scores under the baseline and the quant."""
        lost = (self.changed + self.drop / self.step) / 2.0
        u = rng.random(self.n)
        before, after = np.full(self.n, 0.5 + self.step / 2.0), np.full(self.n, 0.5 + self.step / 2.0)
        after[u < lost] -= self.step
        before[(u >= lost) & (u < self.changed)] -= self.step
        return before, after


TASKS = {
    "none": [Task(200, 0.05, 0.0), Task(100, 0.05, 0.0), Task(400, 0.1, 0.0)],
    "cancel": [Task(200, 0.1, 0.04), Task(200, 0.1, -0.04)],
    "few change": [Task(60, 0.02, 0.02), Task(40, 0.02, 0.02), Task(100, 0.02, 0.02)],
    "at the margin": [Task(200, 0.05, 0.02), Task(100, 0.05, 0.02), Task(400, 0.1, 0.02)],
    "one task loses": [Task(200, 0.06, 0.06), Task(200, 0.02, 0.0), Task(200, 0.02, 0.0)],
    "graded, at the margin": [Task(200, 0.3, 0.02, 1 / 3), Task(100, 0.3, 0.02, 1 / 3)],
    "graded, few change": [Task(60, 0.06, 0.02, 1 / 3), Task(40, 0.06, 0.02, 1 / 3)],
}


@dataclass(frozen=True)
class PoolRates:
    """Shares of simulated studies.

    Attributes:
        covers: Whose interval holds the true pooled drop.
        bootstrap_covers: Likewise, of the stratified cluster bootstrap.
        below: Whose one-sided upper bound lies below the true pooled drop; at most 5%.
        bootstrap_below: Likewise, of the bootstrap.
        significant: With a p-value of at most 5%.
    """

    covers: float
    bootstrap_covers: float
    below: float
    bootstrap_below: float
    significant: float


def simulate_pool(tasks: Sequence[Task], weights: Sequence[float] | None, studies: int, seed: int = 0) -> PoolRates:
    """Simulate studies of several tasks."""
    rng = np.random.default_rng(seed)
    shares = np.array([each.n for each in tasks] if weights is None else weights, dtype=float)
    true = float(shares @ [each.drop for each in tasks] / shares.sum())
    found = []
    for _ in range(studies):
        before, after = zip(*(each.draw(rng) for each in tasks), strict=True)
        pooled = pool(before, after, weights=weights, resamples=1000)
        wide = pool(before, after, weights=weights, resamples=1000, confidence=0.9)
        one = pooled.overall
        found.append(
            (
                one.low <= true + 1e-9 and true - 1e-9 <= one.high,
                pooled.bootstrap_low <= true + 1e-9 and true - 1e-9 <= pooled.bootstrap_high,
                one.upper < true - 1e-9,
                wide.bootstrap_high < true - 1e-9,
                one.p_value <= 0.05,
            )
        )
    return PoolRates(*(float(each) for each in np.mean(found, axis=0)))


@dataclass(frozen=True)
class ModelRates:
    """Shares of simulated summaries.

    Attributes:
        covers: Whose interval holds the mean of all models' effects.
        normal_covers: Likewise, of DerSimonian and Laird's method with the normal law, the usual one.
        predicts: Whose prediction interval holds the effect of a further model.
    """

    covers: float
    normal_covers: float
    predicts: float


def simulate_models(models: int, tau: float, studies: int, seed: int = 0, shared: float = 0.0) -> ModelRates:
    """Simulate summaries over models whose effects have a standard deviation, of 1 point by chance or 2 in turn.

    Args:
        models: Their number.
        tau: Standard deviation of their true effects.
        studies: Number of summaries.
        seed: Of the draws.
        shared: Share of the smaller variance by chance that all models have in common, as from the same items.
    """
    rng = np.random.default_rng(seed)
    own = np.resize([0.01, 0.02], models) ** 2
    common = shared * own.min()
    found = []
    for _ in range(studies):
        true = 0.02 + tau * rng.standard_normal(models + 1)
        error = math.sqrt(common) * rng.standard_normal() + np.sqrt(own - common) * rng.standard_normal(models)
        seen = true[:models] + error
        summary = random_effects(seen, own, shared=common)
        low, high = summarise_normally(seen, own)
        found.append(
            (
                summary.low <= 0.02 <= summary.high,
                low <= 0.02 <= high,
                summary.predicted_low <= true[-1] <= summary.predicted_high,
            )
        )
    return ModelRates(*(float(each) for each in np.mean(found, axis=0)))


def summarise_normally(effects: NDArray[np.float64], variances: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval by DerSimonian and Laird 1986, as most programs make it."""
    w = 1.0 / variances
    found = measure_heterogeneity(effects, variances)
    between = max(0.0, (found.q - found.degrees) / (w.sum() - w @ w / w.sum()))
    w = 1.0 / (variances + between)
    mean, half = float(w @ effects / w.sum()), float(norm.ppf(0.975)) / math.sqrt(float(w.sum()))
    return mean - half, mean + half


def write_tables(studies: int) -> Iterator[str]:
    """Yield the tables, line by line."""
    yield "| pool | covers (0.95) | bootstrap | bound below the drop (0.05) | bootstrap | p ≤ 0.05 |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, tasks in TASKS.items():
        for weights in (None, [1.0] * len(tasks)):
            rates = simulate_pool(tasks, weights, studies)
            over = "items equal" if weights is None else "tasks equal"
            cells = (rates.covers, rates.bootstrap_covers, rates.below, rates.bootstrap_below, rates.significant)
            yield f"| {name}, {over} | " + " | ".join(f"{each:.3f}" for each in cells) + " |"
    yield ""
    yield "| average | covers (0.95) | normal law | further model (0.95) |"
    yield "| --- | ---: | ---: | ---: |"
    for models in (2, 3, 5, 10):
        for tau in (0.0, 0.01, 0.03):
            for shared in (0.0, 0.5):
                of = simulate_models(models, tau, 6 * studies, shared=shared)
                further = f"{of.predicts:.3f}" if models > 2 else "-"
                about = f"{models} models, τ = {100 * tau:g}pp{', half of the error shared' if shared else ''}"
                yield f"| {about} | {of.covers:.3f} | {of.normal_covers:.3f} | {further} |"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the studies")
    studies = 25 if parser.parse_args().quick else 500
    print(*write_tables(studies), sep="\n")


if __name__ == "__main__":
    main()
