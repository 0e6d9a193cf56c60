"""Comparison of results that somebody else's harness wrote, by the same path as that of our own runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import pandas as pd
import pyarrow as pa

from quantexp.comparison.analysis import JobComparison
from quantexp.comparison.changed_answers import add_changed_answers
from quantexp.comparison.pairing import summarise
from quantexp.comparison.results.base import KEYS, Results, Selection, TaskResults
from quantexp.comparison.results.files import read_results
from quantexp.comparison.results.pairing import TaskPairing, describe_missing_tasks, pair_tasks
from quantexp.comparison.results.words import put_first, split_names
from quantexp.config import CompareConfig, GateConfig, Method, StatsConfig, Target
from quantexp.config.condition import parse_baseline
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.scores import ScoreTables
from quantexp.util.errors import UserError
from quantexp.util.terminal import list_some

MODEL = "results"
"""Stands where a model's name does: files may name one model each."""

_UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class ResultTables:
    """Answers with their texts, by the id of the record that stands for them."""

    by_run: Mapping[str, pd.DataFrame]

    def tables(self, run_ids: Sequence[str], name: str, needed: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the table of each, in this order."""
        yield from (self.by_run[run_id] for run_id in run_ids)


def compare_named(config: CompareConfig | GateConfig, command: str) -> JobComparison:
    """Compare the results that a command names.

    Raises:
        UserError: they cannot be read, or compared.
    """
    selection = Selection(config.metric, config.filter, config.columns)
    sources = put_first(config.stats.baseline, split_names(config.results, command))
    return compare_results([read_results(path, selection, name) for name, path in sources], config.stats)


def compare_results(results: Sequence[Results], stats: StatsConfig) -> JobComparison:
    """Compare results with those of the first condition, whatever `stats.baseline` says.

    Raises:
        UserError: there is nothing to compare, or these statistics cannot be had of files.
    """
    _check_sources(results)
    _check_stats(results, stats)
    pairings = pair_tasks(results)
    digests = {each.name: each.sha256 for each in results}
    records, tables = _make_records(pairings, digests)
    unpaired = {
        record.run_id: refusal
        for pairing in pairings
        for name, refusal in pairing.refused.items()
        for record in records
        if (record.tags["quant"], record.tags["task"]) == (name, pairing.task)
    }
    names = ", ".join(each.name for each in results)
    title = f"{names}: {', '.join(pairing.task for pairing in pairings)}"
    failures = [sentence for each in results for sentence in each.left_out]
    stats = replace(stats, baseline=_check_name(results[0].name))
    summary = summarise(records, failures, stats, title, unpaired=unpaired)
    summary, changed = add_changed_answers(summary, records, ResultTables(tables), stats)
    notes = [*_describe(results, pairings), *summary.notes]
    protocol = _describe_protocol(pairings) | {
        fact: value
        for fact, value in summary.protocol.items()
        if value != _UNKNOWN and not (fact == "seeds" and value == "0")
    }
    summary = replace(summary, notes=tuple(dict.fromkeys(notes)), protocol=protocol)
    return JobComparison(summary, records, changed)


def _check_sources(results: Sequence[Results]) -> None:
    """Refuse what is given twice, under one name or under two.

    Raises:
        UserError: something is.
    """
    seen: dict[str, str] = {}
    for each in results:
        if each.name in seen.values():
            raise UserError(f"Two results are called {each.name}; name them apart, as NAME=PATH.")
        if each.sha256 in seen:
            raise UserError(f"{seen[each.sha256]} and {each.name} are the same results; compare with another file.")
        seen[each.sha256] = each.name


def _check_name(baseline: str) -> str:
    """Refuse a baseline's name that reads as a quant with levels of other factors, which are written in one way.

    Raises:
        UserError: it does.
    """
    if parse_baseline(baseline).label != baseline:
        raise UserError(f"The name {baseline!r} reads as a quant with other factors; name it otherwise, as NAME=PATH.")
    return baseline


def _check_stats(results: Sequence[Results], stats: StatsConfig) -> None:
    """Refuse statistics that need more than files say.

    Raises:
        UserError: these do.
    """
    if stats.method is Method.sequential:
        raise UserError(
            "stats=sequential judges items in the random order in which they were drawn, which files do not say; use "
            "stats=default."
        )
    if stats.target is Target.items:
        for each in results:
            for task in each.tasks:
                if task.items_in_data is None:
                    raise UserError(
                        f"stats.target=items needs the number of items in the data of {task.task}, which {each.name} "
                        "does not say; set stats.target=population."
                    )


def _make_records(
    pairings: Sequence[TaskPairing], digests: Mapping[str, str]
) -> tuple[list[JobRecord], dict[str, pd.DataFrame]]:
    """Make a record of each condition's answers to a task under a seed, and the tables behind them."""
    records, tables, shared = [], {}, ScoreTables()
    for pairing in pairings:
        labels = _label_items(pairing)
        baseline = next(iter(pairing.sides.values()))
        for name, side in pairing.sides.items():
            table = _prepare(side, pairing.key, labels)
            metric = side.metric if name in pairing.refused else baseline.metric
            for seed, of_seed in table.groupby("seed", sort=True):
                run_id = f"{name}, {pairing.task}, seed {seed}"
                tables[run_id] = of_seed.reset_index(drop=True)
                records.append(_make_record(run_id, name, pairing.task, side, metric, tables[run_id], shared))
                records[-1] = replace(records[-1], started=len(records), params={"file.sha256": digests[name]})
    return records, tables


def _label_items(pairing: TaskPairing) -> dict[tuple[str, int], str]:
    """Return the name of each item, by its key and how often that stood there before.

    It is the id in the first file that has it, if no other item has that.
    """
    labels: dict[tuple[str, int], str] = {}
    taken: set[str] = set()
    for side in pairing.sides.values():
        for place, named in zip(_place_items(side, pairing.key), side.table["id"], strict=True):
            if place not in labels:
                key, before = place
                own = key if before == 0 else f"{key} #{before + 1}"
                labels[place] = own if named is None or named in taken else named
                taken.add(labels[place])
    return labels


def _place_items(side: TaskResults, key: str) -> list[tuple[str, int]]:
    """Return the key of each answer's item, and how many items with the same one stand before it.

    Answers to one item differ in their seed or sample; rows that differ in neither are of items that ask the same.
    """
    keys = pd.Series([f"row {n}" if each is None else each for n, each in enumerate(side.table[key])], dtype=object)
    before = side.table.assign(key=keys).groupby(["key", "seed", "sample"], sort=False).cumcount()
    return list(zip(keys, map(int, before), strict=True))


def _prepare(side: TaskResults, key: str, labels: Mapping[tuple[str, int], str]) -> pd.DataFrame:
    """Return the answers as tables of our own runs have them."""
    table, places = side.table, _place_items(side, key)
    items = pd.Series([labels[place] for place in places], index=table.index, dtype=object)
    first = pd.Series([labels[name, 0] for name, _ in places], index=table.index, dtype=object)
    table = table.assign(item_id=items, cluster=table["cluster"].where(table["cluster"].notna(), first))
    if table["extracted"].isna().all():
        # Of what was answered nothing is known but that it differs where the score does.
        table["extracted"] = table["score"].map("{:.9g}".format)
    return table.assign(grading_error=None)


def _make_record(
    run_id: str, name: str, task: str, side: TaskResults, metric: str, table: pd.DataFrame, shared: ScoreTables
) -> JobRecord:
    kept = {
        "item_id": pa.array(table["item_id"], pa.string()),
        "cluster": pa.array(table["cluster"], pa.string()),
        "sample": pa.array(table["sample"], pa.int64()),
        "score": pa.array(table["score"].to_numpy(), pa.float64()),
        "extracted": pa.array(table["extracted"], pa.string(), from_pandas=True),
        "grading_error": pa.nulls(len(table), pa.string()),
    }
    answers = shared.answers(pa.table(kept))
    metrics = {"bits_per_weight": nan, "completion_tokens": 0.0, "run.tokens_per_second": 0.0}
    if side.items_in_data is not None:
        metrics["items_in_data"] = float(side.items_in_data)
    tags = {"model": MODEL, "quant": name, "task": task, "seed": str(table["seed"].iloc[0]), "data": side.format}
    return JobRecord(
        run_id=run_id,
        name=f"{name} on {task}",
        started=0,
        tags=tags,
        params={},
        metrics=metrics,
        identity={"grader": {"id": metric}},
        scores=answers.item_scores,
        clusters=answers.asked.of_item,
        answers=answers,
    )


def _describe(results: Sequence[Results], pairings: Sequence[TaskPairing]) -> Iterator[str]:
    """Yield what a reader must know of the files: what differs, what is missing, how items were paired."""
    for pairing in pairings:
        yield from _describe_differences(pairing)
    yield from describe_missing_tasks(results, pairings)
    for pairing in pairings:
        yield from _describe_gaps(pairing)
    for each in results:
        yield from each.notes
    yield from _describe_choices(results, pairings)
    if all(side.table["output"].isna().all() for pairing in pairings for side in pairing.sides.values()):
        yield "The files hold no answers, so that answer churn counts only those whose score changed."


def _describe_choices(results: Sequence[Results], pairings: Sequence[TaskPairing]) -> Iterator[str]:
    """Yield what was chosen or guessed, and by what items were paired; what tasks and files share is said once."""
    clauses: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for pairing in pairings:
        for name, side in pairing.sides.items():
            for clause in (*side.notes, f"items are paired by {KEYS[pairing.key]}"):
                tasks, names = clauses.setdefault(clause, ({}, {}))
                tasks[pairing.task], names[name] = None, None
    for clause, (tasks, names) in clauses.items():
        beside = "" if len(names) == len(results) else f" ({list_some(list(names))})"
        yield f"{list_some(list(tasks))}: {clause}{beside}."


def _describe_differences(pairing: TaskPairing) -> Iterator[str]:
    (name, baseline), *others = pairing.sides.items()
    for other_name, other in others:
        if other_name in pairing.refused:
            continue
        if other.format != baseline.format:
            yield (
                f"{pairing.task}: {name} is from {baseline.format} ({baseline.metric}) and {other_name} from "
                f"{other.format} ({other.metric}), so that a difference holds what differs between these too."
            )
            continue
        for setting, value in baseline.settings.items():
            if (theirs := other.settings.get(setting, value)) != value:
                yield f"{pairing.task}: the {setting} is {value} in {name} and {theirs} in {other_name}."


def _describe_gaps(pairing: TaskPairing) -> Iterator[str]:
    for name, side in pairing.sides.items():
        without = int(side.table["score"].isna().sum())
        if without:
            yield f"{name} on {pairing.task} has no score for {without:,} of {len(side.table):,} answers."
    name, *others = pairing.sides
    counts = {each: _count_rows(side, pairing.key) for each, side in pairing.sides.items()}
    for other in others:
        both = counts[name].keys() & counts[other].keys()
        unequal = sum(counts[name][each] != counts[other][each] for each in both)
        if unequal:
            yield (
                f"{pairing.task}: {unequal:,} items are in {other} more or less often than in {name}; if these are "
                "further answers, number them in a column called sample."
            )


def _count_rows(side: TaskResults, key: str) -> dict[str, int]:
    """Count the rows of each item that differ in neither seed nor sample."""
    counts: dict[str, int] = {}
    for each, before in _place_items(side, key):
        counts[each] = max(counts.get(each, 0), before + 1)
    return counts


def _describe_protocol(pairings: Sequence[TaskPairing]) -> dict[str, str]:
    facts: dict[str, dict[str, Any]] = {}
    for pairing in pairings:
        facts.setdefault(f"paired by ({pairing.task})", {})[KEYS[pairing.key]] = None
        for side in pairing.sides.values():
            for name, value in {"format": side.format, **side.facts, **side.settings}.items():
                facts.setdefault(f"{name} ({pairing.task})", {})[value] = None
    return {fact: ", ".join(values) for fact, values in facts.items()}
