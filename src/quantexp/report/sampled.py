"""pass@k and majority@k, where items have several answers that are right or wrong."""

from collections.abc import Callable

from quantexp.comparison.summary import Condition, Summary, interval_names, score_text
from quantexp.report.csv_tables import Grid, format_csv
from quantexp.stats import AtK

SAMPLED_NOTE = (
    "pass@k: the probability that at least one of k answers to an item is right, estimated from all of its answers "
    "without bias. majority@k: the share of items on which the answer read most often among the first k is right; of "
    "several, the one drawn first."
)


def sampled_grid(summary: Summary) -> Grid:
    """Tabulate pass@k and majority@k; no rows if items have one answer each, or scores are graded."""
    level = interval_names(summary)
    rows = [
        (
            *(summary.make_title(c.model, c.task), c.quant, str(each.k)),
            *(" ".join(score_text(found)) for found in (each.passed, each.majority)),
        )
        for c in summary.conditions
        for each in c.sampled
    ]
    header = ("task", "quant", "k", f"pass@k, points [{level}]", f"majority@k, points [{level}]")
    return Grid(header, "llrrr", tuple(rows))


_SAMPLES_COLUMNS: dict[str, Callable[[tuple[Condition, AtK]], object]] = {
    "model": lambda row: row[0].model,
    "task": lambda row: row[0].task,
    "quant": lambda row: row[0].quant,
    "k": lambda row: row[1].k,
    "pass_at_k": lambda row: row[1].passed.mean,
    "pass_low": lambda row: row[1].passed.low,
    "pass_high": lambda row: row[1].passed.high,
    "pass_interval": lambda row: row[1].passed.interval_method,
    "majority_at_k": lambda row: row[1].majority.mean,
    "majority_low": lambda row: row[1].majority.low,
    "majority_high": lambda row: row[1].majority.high,
    "majority_interval": lambda row: row[1].majority.interval_method,
    "n": lambda row: row[1].passed.n,
    "confidence": lambda row: row[1].passed.confidence,
}


def samples_csv(summary: Summary) -> str:
    """Return pass@k and majority@k as CSV with a header; scores are fractions, floats have full precision."""
    rows = [(condition, each) for condition in summary.conditions for each in condition.sampled]
    return format_csv(_SAMPLES_COLUMNS, rows)
