"""The runs of one quant on one task, merged over their seeds: what is compared with what."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantexp.identity import Identity, short, varying
from quantexp.report.summary import FLOOR_COUNTS
from quantexp.tracking import FLOOR, JobRecord


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
        """These answers in the order in which the items were asked."""
        place = {item: number for number, item in enumerate(self.runs[0].scores.index)}
        return answers.sort_index(level="item", key=lambda items: items.map(place), sort_remaining=False)

    @property
    def items(self) -> pd.Index:
        """The items that were answered, in order."""
        return self.answers.index.unique("item")

    def units(self, answers: "pd.Series[float]") -> NDArray[Any]:
        """What each answer counts with where an item counts once: the item, or those that ask the same."""
        items = answers.index.get_level_values("item")
        return np.array([self.clusters.get(item, item) for item in items], dtype=str)

    @property
    def floor(self) -> dict[str, int] | None:
        """What changed when the same items were answered twice, over all runs; None unless all of them measured it."""
        if not all(f"{FLOOR}.answers" in run.metrics for run in self.runs):
            return None
        return {key: int(sum(run.metrics[f"{FLOOR}.{key}"] for run in self.runs)) for key in FLOOR_COUNTS}


def grouped(records: Iterable[JobRecord]) -> list[Group]:
    """Merge runs that differ only in the seed; of two runs with the same seed the newer counts."""
    merged: dict[str, dict[str, JobRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.started):
        # Sorted: a database returns tags in any order.
        key = json.dumps((record.tags["task"], record.tags["quant"], record.identity), sort_keys=True)
        merged[key][record.tags["seed"]] = record
    groups = []
    for by_seed in merged.values():
        runs = tuple(by_seed.values())
        asked = pd.concat({seed: run.scores.dropna() for seed, run in by_seed.items()}, names=["seed", "item"])
        groups.append(
            Group(
                model=runs[0].tags["model"],
                task=runs[0].tags["task"],
                quant=runs[0].tags["quant"],
                identity=runs[0].identity,
                runs=runs,
                # Items first: where none repeats, the same order whatever counts once, so the same resamples.
                answers=asked.swaplevel().sort_index(),
                clusters={item: cluster for run in runs for item, cluster in run.clusters.items()},
            )
        )
    return groups


def labelled(groups: Sequence[Group]) -> list[Group]:
    """Where a quant was run on a task in several ways, each way becomes a task of its own name."""
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
    """What sets this way of running a task apart from the others; numbered where that, shortened, reads the same."""

    def words(way: Identity) -> str:
        return ", ".join(f"{key}={short(value)}" for key, value in varying(way, all_ways))

    alike: list[Identity] = []
    for way in all_ways:
        if words(way) == words(identity) and way not in alike:
            alike.append(way)
    return words(identity) + (f" #{alike.index(identity) + 1}" if len(alike) > 1 else "")
