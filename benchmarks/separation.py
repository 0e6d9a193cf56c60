"""How many items it takes to tell neighbouring quants apart, by divergence and by accuracy, judged by a finished sweep.

    python benchmarks/separation.py [SWEEP]

in the folder of a sweep that ran with `divergence=true`. Two quants next to each other in bits per weight are compared
with each other on the items that both have: by the difference of their mean divergences from the baseline, over the
same tokens, and by the difference of their mean scores. The number of items is that of a two-sided 5% test of a mean
difference that finds the difference seen here with 80% probability: ((1.96 + 0.84) sd / difference)². For divergence,
whose mean counts each token once, sd is that of the linearised ratio (Cochran 1977, "Sampling Techniques", section
6.4).
"""

import itertools
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from quantexp.config import TrackingConfig
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import DIVERGENCE, ITEMS

QUANTILES = float(norm.ppf(0.975) + norm.ppf(0.8))


def main() -> None:
    """Print a line for each pair and task."""
    store = Store(TrackingConfig())
    sweep = sys.argv[1] if len(sys.argv) > 1 else store.latest_sweep()
    records, _ = store.jobs_of(sweep)
    print(f"{'task':12}{'pair':18}{'by divergence':>16}{'by accuracy':>14}   differences seen (nats, points)")
    for task in dict.fromkeys(record.tags["task"] for record in records):
        measured = [each for each in records if each.tags["task"] == task and DIVERGENCE in each.metrics]
        ladder = sorted(measured, key=lambda each: -each.metrics["bits_per_weight"])
        for more, fewer in itertools.pairwise(ladder):
            tokens = [_by_item(_table(store, each, DIVERGENCE)) for each in (more, fewer)]
            scores = [_table(store, each, ITEMS).groupby("item_id")["score"].mean() for each in (more, fewer)]
            pair = f"{more.tags['quant']}, {fewer.tags['quant']}"
            change = tokens[1]["sum"] - tokens[0]["sum"]
            ratio = change.sum() / tokens[0]["size"].sum()
            linear = (change - ratio * tokens[0]["size"]) / tokens[0]["size"].mean()
            loss = (scores[0] - scores[1]).to_numpy()
            print(
                f"{task:12}{pair:18}{_needed(ratio, linear.to_numpy()):>16}{_needed(loss.mean(), loss):>14}   "
                f"{ratio:+.4f}, {100 * loss.mean():+.1f} (n={len(loss)})"
            )


def _table(store: Store, job: JobRecord, name: str) -> pd.DataFrame:
    with store.file(job.run_id, f"{name}.parquet") as path:
        return pd.read_parquet(path)


def _by_item(tokens: pd.DataFrame) -> pd.DataFrame:
    return tokens.groupby("item_id")["divergence"].agg(["sum", "size"])


def _needed(difference: float, values: NDArray[np.float64]) -> str:
    if difference == 0:
        return "no difference"
    return f"{max(2, int(np.ceil((QUANTILES * values.std(ddof=1) / difference) ** 2))):,}"


if __name__ == "__main__":
    main()
