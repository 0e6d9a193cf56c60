"""pass@k and majority@k, where items have several answers that are right or wrong."""

from collections.abc import Callable
from typing import NamedTuple

from quantexp.comparison.summary import Condition, Summary
from quantexp.comparison.wording import interval_names, score_text
from quantexp.report.columns import Column, DataTable, Grid, list_attributes
from quantexp.stats import AtK, Estimate

SAMPLED_NOTE = (
    "pass@k: the probability that at least one of k answers to an item is right, estimated from all of its answers "
    "without bias. majority@k: the share of items on which the answer read most often among the first k is right; of "
    "several, the one drawn first."
)


class _Sampled(NamedTuple):
    condition: Condition
    at: AtK


def samples_table(summary: Summary) -> DataTable[_Sampled]:
    """Return pass@k and majority@k by condition and k; no rows if items have one answer each, or scores are graded."""
    level = interval_names(summary)
    columns: list[Column[_Sampled]] = [
        Column("model", lambda row: row.condition.model),
        Column(
            "task",
            lambda row: row.condition.task,
            "task",
            lambda row: summary.make_title(row.condition.model, row.condition.task),
            "l",
        ),
        Column("quant", lambda row: row.condition.quant, summary.noun, side="l"),
        Column("k", lambda row: row.at.k, "k"),
        *_list_score("pass", lambda row: row.at.passed, level),
        *_list_score("majority", lambda row: row.at.majority, level),
        *list_attributes(lambda row: row.at.passed, "n", "confidence"),
    ]
    return DataTable(columns, [_Sampled(each, at) for each in summary.conditions for at in each.sampled])


def _list_score(name: str, of: Callable[[_Sampled], Estimate], level: str) -> list[Column[_Sampled]]:
    return [
        Column(
            f"{name}_at_k", lambda row: of(row).mean, f"{name}@k, points [{level}]", lambda row: score_text(of(row))
        ),
        *list_attributes(of, "low", "high", prefix=f"{name}_"),
        Column(f"{name}_interval", lambda row: of(row).interval_method),
    ]


def sampled_grid(summary: Summary) -> Grid:
    """Tabulate pass@k and majority@k; no rows where `samples_table` has none."""
    return samples_table(summary).show("task", "quant", "k", "pass_at_k", "majority_at_k")
