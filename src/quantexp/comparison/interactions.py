"""Interactions of two factors: whether their losses add up, or one makes the other's worse."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from quantexp.comparison.groups import Group
from quantexp.comparison.summary import Interaction
from quantexp.config import StatsConfig
from quantexp.config.condition import WEIGHTS, Levels, join_names
from quantexp.stats import contrast, holm


@dataclass(frozen=True, slots=True)
class Axis:
    """Factors that only change together: one thing that a sweep varies.

    Attributes:
        name: of the factors, in a table's heading.
        factors: their names.
    """

    name: str
    factors: tuple[str, ...]

    def read(self, levels: Levels) -> str:
        """Return a condition's level: one word if all factors have the same."""
        return ", ".join(dict.fromkeys(levels[name] for name in self.factors))


def find_axes(conditions: Sequence[Levels]) -> list[Axis]:
    """Return what varies among some conditions, the weights first.

    Args:
        conditions: the levels of each, the weights among them; all of the same factors.
    """
    factors = [name for name in conditions[0] if len({levels[name] for levels in conditions}) > 1]
    together: list[list[str]] = []
    for name in factors:
        for others in together:
            pairs = {(levels[name], levels[others[0]]) for levels in conditions}
            if len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}):
                others.append(name)
                break
        else:
            together.append([name])
    axes = [Axis(join_names(names), tuple(names)) for names in together]
    return sorted(axes, key=lambda axis: axis.factors[0] != WEIGHTS)


def find_interactions(
    groups: Sequence[Group], levels: Mapping[str, Levels], baseline: str, stats: StatsConfig
) -> tuple[Interaction, ...]:
    """Test each pair of factors that were changed alone and together.

    An interaction is what a condition loses beyond the sum of what its two factors lose alone: the mean over items of
    `score(A alone) + score(B alone) - score(both) - score(baseline)`. p-values are corrected for their number (Holm).

    Args:
        groups: the runs of each condition.
        levels: of the factors that vary, the weights among them, by the id of a run.
        baseline: its name.
        stats: confidence, resamples and seed.
    """
    by_task: dict[tuple[str, str], dict[str, Group]] = {}
    for group in groups:
        by_task.setdefault((group.model, group.task), {})[group.quant] = group
    found = [
        each
        for of_task in by_task.values()
        if baseline in of_task
        for each in _test(
            {name: levels[group.runs[0].run_id] for name, group in of_task.items()}, of_task, baseline, stats
        )
    ]
    if not found:
        return ()
    adjusted = holm([each.contrast.p_value for each in found])
    return tuple(replace(each, p_adjusted=float(p)) for each, p in zip(found, adjusted, strict=True))


def _test(
    levels: Mapping[str, Levels], groups: Mapping[str, Group], baseline: str, stats: StatsConfig
) -> Iterator[Interaction]:
    reference = levels[baseline]
    if any(each.keys() != reference.keys() for each in levels.values()):
        return
    axes = find_axes([*levels.values()])
    changed = {
        name: tuple(axis for axis in axes if axis.read(each) != axis.read(reference)) for name, each in levels.items()
    }
    for name, of_both in changed.items():
        if len(of_both) != 2:
            continue
        wanted = {axis: axis.read(levels[name]) for axis in of_both}
        first, second = (
            next((other for other, of in changed.items() if of == (axis,) and axis.read(levels[other]) == level), None)
            for axis, level in wanted.items()
        )
        if first is None or second is None:
            continue
        sides = [groups[each].by_unit for each in (first, second, name, baseline)]
        table = pd.concat(sides, axis=1, join="inner").sort_index().to_numpy(dtype=float)
        if not len(table):
            continue
        yield Interaction(
            *(groups[name].model, groups[name].task, name, (first, second)),
            contrast([table @ [1.0, 1.0, -1.0, -1.0]], largest=2.0, **stats.resampling),
        )
