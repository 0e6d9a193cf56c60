"""Pairing of results that somebody else's harness wrote: by which key, and what speaks against it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from quantexp.comparison.results.base import KEYS, Results, TaskResults
from quantexp.config.identity import short
from quantexp.util.errors import UserError
from quantexp.util.terminal import list_some


@dataclass(frozen=True, slots=True)
class TaskPairing:
    """What every condition has of one task.

    Attributes:
        task: its name.
        key: column of `KEYS` by which items are paired.
        sides: the results of each condition that has any, by its name; the baseline comes first.
        refused: why a condition is not compared with the baseline, by its name.
    """

    task: str
    key: str
    sides: dict[str, TaskResults]
    refused: dict[str, str]


def pair_tasks(results: Sequence[Results]) -> list[TaskPairing]:
    """Pair every condition with the first one, task by task.

    A task without a name, as that of a table, is the one task of the other side.

    Raises:
        UserError: no task is there twice.
    """
    baseline, *others = results
    found = []
    for task in baseline.tasks:
        sides = {baseline.name: task}
        for other in others:
            if (own := _find_task(task, baseline, other)) is not None:
                sides[other.name] = own
        if len(sides) > 1:
            found.append(_pair(task.task, sides))
    if not found:
        there = ", ".join(
            f"{each.name} has {list_some([task.task for task in each.tasks]) or 'none'}" for each in results
        )
        raise UserError(f"There is no task that {baseline.name} and another have in common: {there}.")
    return found


def describe_missing_tasks(results: Sequence[Results], pairings: Sequence[TaskPairing]) -> Iterator[str]:
    """Yield a sentence for each condition that lacks a task of another."""
    names = [each.name for each in results]
    paired = {name: [id(each.sides[name]) for each in pairings if name in each.sides] for name in names}
    alone = {each.name: [task.task for task in each.tasks if id(task) not in paired[each.name]] for each in results}
    for name, tasks in alone.items():
        if tasks:
            yield f"Only {name} has results of {list_some(tasks)}, which are not compared."
    for each in results[1:]:
        lacking = [pairing.task for pairing in pairings if each.name not in pairing.sides]
        if lacking:
            yield f"{each.name} has no results of {list_some(lacking)}."


def _find_task(task: TaskResults, baseline: Results, other: Results) -> TaskResults | None:
    named = next((each for each in other.tasks if each.task == task.task), None)
    if named is not None or len(baseline.tasks) > 1 or len(other.tasks) != 1:
        return named
    [only] = other.tasks
    return None if task.is_named and only.is_named else only


def _pair(task: str, sides: dict[str, TaskResults]) -> TaskPairing:
    (name, baseline), *others = sides.items()
    key = _choose_key(baseline, [other for _, other in others])
    refused = {}
    for other_name, other in others:
        if reasons := list(_find_mismatches(baseline, other, key)):
            refused[other_name] = f"{other_name} on {task} is not compared with {name}: {'; '.join(reasons)}."
    return TaskPairing(task, key, sides, refused)


def _choose_key(baseline: TaskResults, others: Sequence[TaskResults]) -> str:
    """Choose the best key of the baseline among those that most of the others have; its best where none has any.

    A key by which hardly an item is the same is passed over for one by which most are: versions of a harness differ in
    what they take for the document. An id, which says nothing of what was asked, is no such other.
    """
    own = [key for key in KEYS if has_key(baseline, key)]
    counts = {key: sum(has_key(other, key) for other in others) for key in own}
    shared = [key for key in own if counts[key] == max(counts.values())]
    content = [key for key in shared if key != "id"]
    fitting = [key for key in content if all(_share_most(baseline, other, key) for other in others)]
    return (fitting or shared)[0]


def _share_most(baseline: TaskResults, other: TaskResults, key: str) -> bool:
    """Tell if at least half of the items of one side are on the other too; a side without the key does not count."""
    before, after = (set(results.table[key]) for results in (baseline, other))
    return not has_key(other, key) or 2 * len(before & after) >= min(len(before), len(after))


def has_key(results: TaskResults, key: str) -> bool:
    """Tell if every answer has this key."""
    return bool(results.table[key].notna().all())


def _find_mismatches(baseline: TaskResults, other: TaskResults, key: str) -> Iterator[str]:
    """Yield what speaks against a pair, a clause each."""
    if not has_key(other, key):
        yield f"its file has not {KEYS[key]} of its items, by which the others are paired"
        return
    same_format = baseline.format == other.format
    for name, value in baseline.facts.items() if same_format else ():
        if other.facts.get(name, value) != value:
            yield f"the {name} is {short(other.facts[name])} and not {short(value)}"
    before, after = (results.table.drop_duplicates(key).set_index(key) for results in (baseline, other))
    both = before.index.intersection(after.index)
    if both.empty:
        yield _describe_no_overlap(baseline, other, key)
        return
    before, after = before.loc[both], after.loc[both]
    if same_format and key != "prompt_key":
        yield from _describe_differing(before["prompt_key"], after["prompt_key"], "the prompt")
    if same_format and key != "document":
        yield from _describe_differing(before["reference"], after["reference"], "the reference answer")


def _describe_no_overlap(baseline: TaskResults, other: TaskResults, key: str) -> str:
    said = f"they have no item in common by {KEYS[key]}"
    if key == "id":
        examples = [results.table["id"].iloc[0] for results in (baseline, other)]
        return f"{said} ({examples[1]} is one, and {examples[0]} of the other)"
    shared = set(baseline.table["id"].dropna()) & set(other.table["id"].dropna())
    return said if not shared else f"{said}, though {len(shared)} by the id: what was asked is not the same"


def _describe_differing(before: "pd.Series[str]", after: "pd.Series[str]", what: str) -> Iterator[str]:
    differs = before.notna() & after.notna() & (before != after)
    if differs.any():
        yield f"{what} differs on {int(differs.sum()):,} of {len(before):,} items"
