"""The runs of one quant on one task, merged over their seeds: what is compared with what."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantexp.comparison.summary import FLOOR_COUNTS
from quantexp.config.identity import Identity, select_varying, short
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.tags import FLOOR, RULE


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one quant that differ in nothing but the seed, merged.

    Attributes:
        answers: score of each answer, by item and seed.
        clusters: what items that ask the same share, by item.
    """

    model: str
    task: str
    quant: str
    identity: Identity
    runs: tuple[JobRecord, ...]
    answers: "pd.Series[float]"
    clusters: Mapping[str, str]

    def as_drawn(self, answers: "pd.Series[float]") -> "pd.Series[float]":
        """Return these answers in the order in which the items were asked."""
        place = {item: number for number, item in enumerate(self.runs[0].scores.index)}
        return answers.sort_index(level="item", key=lambda items: items.map(place), sort_remaining=False)

    @property
    def task_name(self) -> str:
        """The task's own name, however many ways of running it are told apart."""
        return self.runs[0].tags["task"]

    @property
    def items(self) -> pd.Index:
        """The items that were answered, in order."""
        return self.answers.index.unique("item")

    def units(self, answers: "pd.Series[float]") -> NDArray[np.intp]:
        """Return the unit of each answer where an item counts once, as a number: those of names in their order."""
        names, items = self._unit_names(answers)
        return np.asarray(np.unique(names, return_inverse=True)[1][items], dtype=np.intp)

    def name_units(self, answers: "pd.Series[float]") -> NDArray[Any]:
        """Return the name of the unit of each answer where an item counts once."""
        names, items = self._unit_names(answers)
        return names[items]

    @property
    def by_unit(self) -> "pd.Series[float]":
        """The mean score of each item, or of those that ask the same, by name."""
        return self.answers.groupby(self.name_units(self.answers)).mean()

    def _unit_names(self, answers: "pd.Series[float]") -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Return the unit of each item's answers, the item or those that ask the same; and each answer's item."""
        index = cast(pd.MultiIndex, answers.index)
        names = [self.clusters.get(item, item) for item in index.levels[0]]
        return np.array(names, dtype=str), np.asarray(index.codes[0], dtype=np.intp)

    @property
    def floor(self) -> dict[str, int] | None:
        """Changes when the same items were answered twice, over all runs; None unless all of them measured it."""
        if not all(f"{FLOOR}.answers" in run.metrics for run in self.runs):
            return None
        return {key: int(sum(run.metrics[f"{FLOOR}.{key}"] for run in self.runs)) for key in FLOOR_COUNTS}

    @property
    def rules(self) -> dict[str, int]:
        """Number of answers that each rule of the grader has read, over all runs."""
        counts: Counter[str] = Counter()
        for run in self.runs:
            counts.update({key.removeprefix(RULE): int(n) for key, n in run.metrics.items() if key.startswith(RULE)})
        return dict(counts)


def merge_seeds(records: Iterable[JobRecord]) -> list[Group]:
    """Merge runs that differ only in the seed; of two runs with the same seed the newer counts."""
    merged: dict[str, dict[str, JobRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.started):
        # Sorted: a database returns tags in any order.
        key = json.dumps((record.tags["task"], record.tags["quant"], record.identity), sort_keys=True)
        merged[key][record.tags["seed"]] = record
    groups = []
    for by_seed in merged.values():
        runs = tuple(by_seed.values())
        # Runs that asked the same share one mapping.
        clusters = {id(run.clusters): run.clusters for run in runs}
        groups.append(
            Group(
                model=runs[0].tags["model"],
                task=runs[0].tags["task"],
                quant=runs[0].tags["quant"],
                identity=runs[0].identity,
                runs=runs,
                answers=_merged({seed: run.scores for seed, run in by_seed.items()}),
                clusters={item: cluster for each in clusters.values() for item, cluster in each.items()},
            )
        )
    return groups


def _merged(by_seed: Mapping[str, "pd.Series[float]"]) -> "pd.Series[float]":
    """Return the scores that are there, by item and seed, in the order of the items' names.

    Items first: where none repeats, the same order whatever counts once, so the same resamples. As pandas would
    concatenate and sort them, but a name is looked at once for all runs that share an index.
    """
    indexes = {id(scores.index): scores.index for scores in by_seed.values()}
    items = pd.Index(sorted({item for index in indexes.values() for item in index}), dtype="str", name="item")
    places = {key: items.get_indexer(index) for key, index in indexes.items()}
    seeds = sorted(by_seed)
    of_item, of_seed, values = [], [], []
    for seed, scores in by_seed.items():
        each = scores.to_numpy(dtype=np.float64)
        there = np.flatnonzero(~np.isnan(each))
        of_item.append(places[id(scores.index)][there])
        of_seed.append(np.full(len(there), seeds.index(seed)))
        values.append(each[there])
    item, seed_number, score = np.concatenate(of_item), np.concatenate(of_seed), np.concatenate(values)
    order = np.lexsort((seed_number, item))
    levels: list[Any] = [items, pd.Index(seeds, dtype="str")]
    codes: list[Any] = [item[order], seed_number[order]]
    index = pd.MultiIndex(levels, codes, names=["item", "seed"])
    return pd.Series(score[order], index=index)


def label_groups(groups: Sequence[Group]) -> list[Group]:
    """Give each way in which a quant was run on a task a task name of its own."""
    ways: dict[tuple[str, str, str], list[Group]] = defaultdict(list)
    for group in groups:
        ways[group.model, group.task, group.quant].append(group)
    crowded = {(model, task) for (model, task, _), same in ways.items() if len(same) > 1}
    labelled = []
    for group in groups:
        if (group.model, group.task) in crowded:
            all_ways = [g.identity for g in groups if (g.model, g.task) == (group.model, group.task)]
            group = replace(group, task=f"{group.task} ({_label(group.identity, all_ways)})")
        labelled.append(group)
    return labelled


def _label(identity: Identity, all_ways: Sequence[Identity]) -> str:
    """Return what sets this way of running a task apart; numbered if that, shortened, reads the same."""

    def words(way: Identity) -> str:
        varying = dict(select_varying(way, all_ways))
        named = {key: value for key, value in varying.items() if not key.endswith(("sha256", "fingerprint"))}
        return ", ".join(f"{key}={short(value)}" for key, value in (named or varying).items())

    alike: list[Identity] = []
    for way in all_ways:
        if words(way) == words(identity) and way not in alike:
            alike.append(way)
    return words(identity) + (f" #{alike.index(identity) + 1}" if len(alike) > 1 else "")
