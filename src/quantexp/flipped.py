"""Which answers changed between the baseline and each quant, and where, from the item tables of what was compared."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from quantexp.config import StatsConfig, Unit
from quantexp.console import bar
from quantexp.report.breakdown import parts
from quantexp.report.flips import COLUMNS, flip_rows, flips
from quantexp.report.summary import Summary
from quantexp.stats import Method
from quantexp.stored import read_table
from quantexp.tracking import ITEMS, JobRecord, Store


def flipped(
    summary: Summary, records: Sequence[JobRecord], store: Store, stats: StatsConfig
) -> tuple[Summary, pd.DataFrame]:
    """The summary with what changed in each comparison and in its parts, and the changed answers, one a row."""
    runs = runs_behind(summary, records)
    options: dict[str, Any] = {"confidence": stats.confidence, "resamples": stats.resamples, "seed": stats.seed}
    options |= {"by_item": stats.unit is Unit.item, "method": Method(stats.method.value)}
    found, rows = {}, []
    with bar("comparing answers", len(summary.comparisons), "comparisons") as advance:
        for place in dict.fromkeys((each.model, each.task) for each in summary.comparisons):
            # One task at a time, since answers are long.
            before = _answers(runs[*place, summary.baseline], store)
            for each in summary.comparisons:
                if (each.model, each.task) == place:
                    after = _answers(runs[*place, each.quant], store)
                    by_part = parts(before, after, **options)
                    found[*place, each.quant] = replace(each, flips=flips(before, after), parts=by_part)
                    rows.append(flip_rows(before, after, task=summary.section(each), name=each.quant))
                    advance(1)
    comparisons = tuple(found[each.model, each.task, each.quant] for each in summary.comparisons)
    changed = [table for table in rows if len(table)] or [pd.DataFrame(columns=[*COLUMNS])]
    return replace(summary, comparisons=comparisons), pd.concat(changed, ignore_index=True)


def runs_behind(summary: Summary, records: Sequence[JobRecord]) -> dict[tuple[str, str, str], list[JobRecord]]:
    """The runs of each condition, by model, task and quant; oldest first."""
    by_id = {record.run_id: record for record in sorted(records, key=lambda record: record.started)}
    return {
        (each.model, each.task, each.quant): [run for run_id, run in by_id.items() if run_id in each.run_ids]
        for each in summary.conditions
    }


def _answers(runs: Sequence[JobRecord], store: Store) -> pd.DataFrame:
    """The answers of several runs, oldest first: of two answers under one seed the newer counts."""
    tables = []
    for run in runs:
        with store.file(run.run_id, f"{ITEMS}.parquet") as path:
            tables.append(read_table(path).assign(seed=int(run.tags["seed"])))
    return pd.concat(tables, ignore_index=True)
