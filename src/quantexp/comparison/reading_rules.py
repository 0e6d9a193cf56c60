"""Reading rules: the rules of a grader that read a quant's answers, if they are other ones than the baseline's."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pandas as pd

from quantexp.comparison.changed_answers import read_tables, runs_behind
from quantexp.comparison.flips import SIDES, list_clusters, pair_answers
from quantexp.comparison.summary import Comparison, RuleShift, Summary
from quantexp.comparison.wording import difference_text
from quantexp.config import StatsConfig, Unit
from quantexp.stats import Method, compare
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store


def add_rule_shifts(summary: Summary, records: Sequence[JobRecord], store: Store, stats: StatsConfig) -> Summary:
    """Add to each comparison whose sides were read by different rules what that does to its difference, and say so.

    Texts are read only of the runs of such comparisons.
    """
    runs = runs_behind(summary, records)
    counts = {(c.model, c.task, c.quant): c.rules for c in summary.conditions}
    found = []

    @cache  # a baseline's is looked up once
    def read(side: tuple[str, str, str]) -> pd.DataFrame:
        return _read_rules(runs[side], store)

    for each in summary.comparisons:
        sides = [(each.model, each.task, quant) for quant in (each.baseline, each.quant)]
        shift = None
        if counts[sides[0]] != counts[sides[1]]:
            before, after = map(read, sides)
            shift = _shift(before, after, stats)
        found.append(replace(each, rules=shift))
    shifted = [_told(each, summary.section(each), each.rules) for each in found if each.rules is not None]
    notes = summary.notes
    if shifted:
        notes = (f"Answers were read by other rules than the baseline's: {'; '.join(shifted)}.", *notes)
    return replace(summary, comparisons=tuple(found), notes=notes)


_TEXTS = ("prompt", "output")


def _read_rules(runs: Sequence[JobRecord], store: Store) -> pd.DataFrame:
    """Return the answers of runs with the rules that read them, without their texts."""
    needed = ("item_id", "cluster", "sample", "score", "extracted", *_TEXTS)
    read = zip(runs, read_tables(runs, store, needed), strict=True)
    tables = [
        table.drop(columns=list(_TEXTS)).assign(
            seed=int(run.tags["seed"]), rule=table.get("rule"), has_rules=_has_rules(table)
        )
        for run, table in read
    ]
    return pd.concat(tables, ignore_index=True)


def _has_rules(table: pd.DataFrame) -> bool:
    """Tell whether a run recorded which rule read an answer: earlier versions did not, nor a grader without rules."""
    return "rule" in table and bool(table["rule"].notna().any() or table["extracted"].isna().all())


def _shift(before: pd.DataFrame, after: pd.DataFrame, stats: StatsConfig) -> RuleShift | None:
    """Compare the rules that read the two sides, over the answers of which both say it; None if these are the same."""
    if not (before["has_rules"].any() and after["has_rules"].any()):
        return None
    pairs = pair_answers(*(table[table["has_rules"]] for table in (before, after)))
    baseline, quant = (pairs[f"rule_{side}"] for side in SIDES)
    counts = [side.value_counts().to_dict() for side in (baseline, quant)]
    if counts[0] == counts[1]:
        return None
    alike = pairs[(baseline == quant) & baseline.notna()]
    difference = None
    if len(alike):
        scores = [alike[f"score_{side}"].to_numpy(dtype=float) for side in SIDES]
        clusters = list_clusters(alike) if stats.unit is Unit.item else None
        difference = compare(*scores, clusters=clusters, method=Method(stats.method.value), **stats.resampling)
    of_baseline, of_quant = ({str(rule): int(n) for rule, n in each.items()} for each in counts)
    rules = sorted({*of_baseline, *of_quant}, key=lambda rule: (-of_baseline.get(rule, 0), rule))
    shares = tuple((rule, of_baseline.get(rule, 0), of_quant.get(rule, 0)) for rule in rules)
    return RuleShift(shares, len(pairs), difference)


def _told(comparison: Comparison, section: str, shift: RuleShift) -> str:
    changed = ", ".join(f"{rule} {after} ({before})" for rule, before, after in shift.counts if before != after)
    told = f"{comparison.quant} on {section} {changed} of {shift.answers}"
    if shift.alike is None:
        return f"{told}, none by the same"
    return f"{told}, and where both were read by the same {' '.join(difference_text(shift.alike))} (n={shift.alike.n})"
