"""Changed answers between the baseline and each quant, from the scores of what was compared.

Texts are read only of the answers that are shown, and of each run once: they are a hundred times as much as scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantexp.comparison.flips import COLUMNS, count_flips, flip_rows, pair_answers, select_changes
from quantexp.comparison.outcomes import WORDS, compare_outcomes
from quantexp.comparison.subgroups import parts
from quantexp.comparison.summary import Comparison, Summary
from quantexp.config import StatsConfig, Unit
from quantexp.stats import Method, holm
from quantexp.tracking.reader import DamagedRunError, JobRecord
from quantexp.tracking.scores import Answers, answer_frame
from quantexp.tracking.tags import ITEMS
from quantexp.util.progress import bar

MOST_CHANGES = 20_000
"""Changed answers of which the texts are kept: some 60 MB, as much as a notebook or MLflow's page opens."""

TEXTS = ("prompt", "output", "reference")
"""Columns of an item table that are shown of a changed answer."""


class ItemTables(Protocol):
    """Tables of answers with their texts."""

    def tables(self, run_ids: Sequence[str], name: str, needed: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the table of each run, in this order."""


_Rows = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Places of answers among those of all runs of the baseline, and of the quant."""


def add_changed_answers(
    summary: Summary, records: Sequence[JobRecord], store: ItemTables, stats: StatsConfig
) -> tuple[Summary, pd.DataFrame]:
    """Return the summary with what changed in each comparison and in its parts, and the changed answers, one per row.

    If more than `MOST_CHANGES` answers changed, each comparison has its share of rows: the first ones of each kind.
    """
    runs = runs_behind(summary, records)
    options = {"by_item": stats.unit is Unit.item, "method": Method(stats.method.value), **stats.resampling}
    share = MOST_CHANGES // max(len(summary.comparisons), 1)
    found, all_rows, some_rows = {}, {}, {}
    with bar("comparing answers", len(summary.comparisons), "comparisons") as advance:
        for place, compared in _by_place(summary).items():
            # One task at a time, since answers are many.
            quants = [summary.baseline, *(each.quant for each in compared)]
            frames = answer_frame({quant: [_answers(run) for run in runs[*place, quant]] for quant in quants})
            before = next(frames)
            for each, after in zip(compared, frames, strict=True):
                key = (*place, each.quant)
                pairs = pair_answers(before, after)
                found[key] = replace(
                    each,
                    flips=count_flips(pairs),
                    parts=parts(pairs, **options),
                    outcomes=compare_outcomes(pairs, **options),
                )
                all_rows[key], some_rows[key] = (_rows(pairs, most) for most in (MOST_CHANGES, share))
                advance(1)
    rows = all_rows if sum(len(before) for before, _ in all_rows.values()) <= MOST_CHANGES else some_rows
    changed = []
    for place, compared in _by_place(summary).items():
        of_baseline = np.unique(np.concatenate([rows[*place, each.quant][0] for each in compared]))
        before = _texts(runs[*place, summary.baseline], of_baseline, store)
        for each in compared:
            here, there = rows[*place, each.quant]
            after = _texts(runs[*place, each.quant], np.unique(there), store)
            table = flip_rows(before.loc[np.unique(here)], after, task=summary.section(each), name=each.quant)
            changed += [table] if len(table) else []
    comparisons = tuple(found[each.model, each.task, each.quant] for each in summary.comparisons)
    first = (_describe_placebos(summary, comparisons), _describe_shifts(comparisons, 1 - stats.confidence))
    notes = (*filter(None, first), *summary.notes)
    return replace(summary, comparisons=comparisons, notes=notes), pd.concat(
        changed or [pd.DataFrame(columns=[*COLUMNS])], ignore_index=True
    )


def runs_behind(summary: Summary, records: Sequence[JobRecord]) -> dict[tuple[str, str, str], list[JobRecord]]:
    """Return the runs of each condition, by model, task and quant; oldest first."""
    # A run that was graded again is there twice, with a table of answers for each time.
    ordered = sorted(records, key=lambda record: record.started)
    places = {(record.run_id, record.table): place for place, record in enumerate(ordered)}
    return {
        (each.model, each.task, each.quant): [
            ordered[place]
            for place in sorted(places[run_id, each.tables.get(run_id, ITEMS)] for run_id in each.run_ids)
        ]
        for each in summary.conditions
    }


def read_tables(runs: Sequence[JobRecord], store: ItemTables, needed: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the table of answers of each run, in this order.

    Args:
        runs: the jobs; those that were graded again have it under another name.
        store: where the tables are.
        needed: columns that each must have.

    Raises:
        DamagedRunError: one is gone or damaged, or somebody else's.
    """
    for name, same in groupby(runs, key=lambda run: run.table):
        yield from store.tables([run.run_id for run in same], name, needed)


def _by_place(summary: Summary) -> dict[tuple[str, str], list[Comparison]]:
    """Return the comparisons of each model and task."""
    found: dict[tuple[str, str], list[Comparison]] = {}
    for each in summary.comparisons:
        found.setdefault((each.model, each.task), []).append(each)
    return found


def _rows(pairs: pd.DataFrame, most: int) -> _Rows:
    places = select_changes(pairs, most)
    if not len(places):
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    return pairs["row_baseline"].to_numpy()[places], pairs["row_quant"].to_numpy()[places]


def _texts(runs: Sequence[JobRecord], rows: NDArray[np.intp], store: ItemTables) -> pd.DataFrame:
    """Answers with their texts, by their places among those of all runs, from the runs that have any of them."""
    starts = [0, *accumulate(len(_answers(run)[1].score) for run in runs)]
    of_run = [rows[(rows >= first) & (rows < end)] for first, end in pairwise(starts)]
    needed = [(run, first, own) for run, first, own in zip(runs, starts, of_run, strict=False) if len(own)]
    tables = read_tables([run for run, _, _ in needed], store, ("item_id", "score", *TEXTS))
    found = []
    for (run, first, own), table in zip(needed, tables, strict=True):
        if len(table) != len(_answers(run)[1].score):
            raise DamagedRunError(
                run.run_id, f"{run.table}.parquet of run {run.run_id} is not the one that was scored."
            )
        shown = table.drop(columns="messages", errors="ignore")  # as much as all the rest, and not shown
        texts = _set_reasoning_apart(shown.iloc[own - first])
        found.append(texts.assign(seed=_seed(run)).set_axis(own))
    return pd.concat(found) if found else pd.DataFrame()


def _set_reasoning_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Show where reasoning ends and the answer begins, in outputs that were read so."""
    if "answer" not in table:
        return table
    parts = zip(table["reasoning"], table["answer"], table["output"], strict=True)
    shown = [f"[reasoning]\n{why}\n\n[answer]\n{answer}" if why else output for why, answer, output in parts]
    return table.assign(output=shown)


def _answers(run: JobRecord) -> tuple[int, Answers]:
    if run.answers is None:
        raise ValueError(f"the answers of run {run.run_id} were not read")
    return _seed(run), run.answers


def _seed(run: JobRecord) -> int:
    return int(run.tags["seed"])


def _describe_placebos(summary: Summary, comparisons: Sequence[Comparison]) -> str:
    """Say what changed between the baseline and itself by another arithmetic; empty if no condition is that."""
    found = [
        f"{each.quant} on {each.task} lost {each.flips.lost} and gained {each.flips.gained} of {each.flips.answers} "
        f"answers, and {each.flips.churn} were read differently"
        for each in comparisons
        if summary.is_placebo(each) and each.flips is not None
    ]
    if not found:
        return ""
    return (
        f"Placebo: {'; '.join(found)}.\nIt computes what {summary.baseline} does, rounded otherwise, so changes no "
        "larger than these are noise of the arithmetic and no damage."
    )


def _describe_shifts(comparisons: Sequence[Comparison], alpha: float) -> str:
    """Say which outcomes a quant has more of than the baseline, whatever its scores; empty if there are none.

    Those whose p-value is below alpha after Holm's correction over all shares of all comparisons; lengths are left to
    the table.
    """
    shares = [(each, shift) for each in comparisons for shift in each.outcomes if not shift.is_length]
    if not shares:
        return ""
    adjusted = holm([shift.change.p_value for _, shift in shares])
    found = [
        f"{each.quant} on {each.task}, {WORDS[shift.name]}: {100 * shift.quant:.1f}% "
        f"({each.baseline} {100 * shift.baseline:.1f}%)"
        for (each, shift), p in zip(shares, adjusted, strict=True)
        if p < alpha and shift.change.difference > 0
    ]
    return f"More answers of a kind than the baseline's: {'; '.join(found)}." if found else ""
