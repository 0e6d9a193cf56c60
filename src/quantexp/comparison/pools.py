"""One decision over all tasks of a model, and what it costs over several models.

The order of claims: "within the margin" is claimed of the pool first, and of its tasks only once the pool has shown it
(`stats.gatekeeping`). A loss is looked for everywhere at once, the pools being further comparisons of Holm's family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from quantexp.comparison.groups import Group
from quantexp.comparison.pairs import Pair
from quantexp.comparison.summary import POOL, AcrossModels, Pooled
from quantexp.config import Method, Pool, StatsConfig, Target
from quantexp.config.validation import find_pool_problems
from quantexp.stats import Decision, decide, effect_variance, gate_tasks, noninferiority_p, pool, random_effects
from quantexp.stats import Method as StatsMethod
from quantexp.stats.units import finite_factor
from quantexp.util.errors import UserError


@dataclass(frozen=True)
class Pools:
    """The pools of some comparisons.

    Attributes:
        found: one for each model and condition.
        members: of each the places of its tasks among the pairs.
        missing: a sentence for each that cannot be made.
    """

    found: tuple[Pooled, ...] = ()
    members: tuple[tuple[int, ...], ...] = ()
    missing: tuple[str, ...] = ()


def make_pools(pairs: Sequence[Pair], groups: Sequence[Group], stats: StatsConfig) -> Pools:
    """Pool the tasks of each model's conditions; nothing if no pool was asked for.

    Args:
        pairs: all that are compared.
        groups: the runs of every condition, which say what tasks a model has.
        stats: how tasks count.

    Raises:
        UserError: that does not fit the other statistics.
    """
    for problem in find_pool_problems(stats):
        raise UserError(problem)
    if stats.pool is Pool.none:
        return Pools()
    found, members, missing = [], [], []
    for model in dict.fromkeys(group.model for group in groups):
        labels = {group.task: group.task_name for group in groups if group.model == model}
        of_model = {place: pair for place, pair in enumerate(pairs) if pair.group.model == model}
        if problem := _find_problem(labels, stats):
            missing.append(f"The tasks of {model} are not pooled: {problem}.")
            continue
        pooled_tasks = [label for label, task in labels.items() if not stats.pool_weights or task in stats.pool_weights]
        if len(pooled_tasks) < 2:
            continue
        for quant in dict.fromkeys(pair.group.quant for pair in of_model.values()):
            places = {pair.group.task: place for place, pair in of_model.items() if pair.group.quant == quant}
            if absent := [task for task in pooled_tasks if task not in places]:
                missing.append(
                    f"{quant} of {model} has no pool, for it was not compared on {', '.join(absent)}: run it there too."
                )
                continue
            chosen = tuple(places[task] for task in pooled_tasks)
            found.append(_pool([pairs[place] for place in chosen], stats))
            members.append(chosen)
    return Pools(tuple(found), tuple(members), tuple(missing))


def _find_problem(labels: Mapping[str, str], stats: StatsConfig) -> str:
    """Say why a model's tasks, by the names that tell them apart here, cannot be pooled; empty if they can."""
    names = [*labels.values()]
    if unknown := [task for task in stats.pool_weights if task not in names]:
        return f"stats.pool_weights names {', '.join(unknown)}, which was not run"
    pooled = [task for task in names if not stats.pool_weights or task in stats.pool_weights]
    if several := [task for task in dict.fromkeys(pooled) if pooled.count(task) > 1]:
        return f"{', '.join(several)} was run in several ways, so that its items would count more than once"
    return ""


def _pool(pairs: Sequence[Pair], stats: StatsConfig) -> Pooled:
    weights = None
    if stats.pool is Pool.tasks:
        weights = [1.0] * len(pairs)
    elif stats.pool is Pool.weights:
        weights = [stats.pool_weights[pair.group.task_name] for pair in pairs]
    scores = [pair.unit_scores(stats) for pair in pairs]
    sizes = [pair.difference.population or 0 for pair in pairs]
    pooled = pool(
        [each["before"].to_numpy() for each in scores],
        [each["after"].to_numpy() for each in scores],
        weights=weights,
        populations=sizes if stats.target is Target.items else None,
        method=StatsMethod(stats.method.value),
        **stats.resampling,
    )
    group = pairs[0].group
    return Pooled(
        *(group.model, pairs[0].partner.quant, group.quant, tuple(pair.group.task for pair in pairs)),
        *(pooled, stats.pool.value),
    )


def decide_in_order(
    pairs: Sequence[Pair], pools: Pools, stats: StatsConfig
) -> tuple[list[Decision | None], tuple[Pooled, ...]]:
    """Decide on the pools and on single tasks, in the order of claims.

    Returns:
        A decision for each pair, and the pools with theirs; none where none was asked for.
    """
    if not pairs or stats.method is Method.bootstrap:
        return [None] * len(pairs), pools.found
    margins = [stats.margins.get(pair.group.task_name, stats.margin) for pair in pairs]
    pool_margin = stats.margin if stats.pool_margin is None else stats.pool_margin
    alpha = 1 - stats.confidence
    made = decide(
        [*(pair.difference for pair in pairs), *(each.difference for each in pools.found)],
        [*margins, *([pool_margin] * len(pools.found))],
        alpha=alpha,
    )
    decisions: list[Decision | None] = [*made[: len(pairs)]]
    pooled = []
    for each, members, decision in zip(pools.found, pools.members, made[len(pairs) :], strict=True):
        # Numbers of further items are those of one sample, which tasks with weights are not.
        pooled.append(replace(each, decision=replace(decision, further=None, fewest_items=None)))
        p_values = [_claim_p(pairs[place], margins[place], stats) for place in members]
        gated = gate_tasks(decision, [made[place] for place in members], p_values, alpha=alpha)
        for place, of_task in zip(members, gated, strict=True):
            decisions[place] = of_task
    return decisions, tuple(pooled)


def _claim_p(pair: Pair, margin: float, stats: StatsConfig) -> float:
    scores = pair.unit_scores(stats)
    return noninferiority_p(
        scores["before"].to_numpy(), scores["after"].to_numpy(), margin, population=pair.difference.population
    )


def compare_models(pairs: Sequence[Pair], pools: Pools, stats: StatsConfig) -> tuple[AcrossModels, ...]:
    """Average what each condition costs over the models, on the pool and on each task that several have."""
    if len({pair.group.model for pair in pairs}) < 2 or stats.method is Method.sequential:
        return ()
    of_pool = [
        (POOL, each.quant, [(pairs[place], weight) for place, weight in zip(members, each.pooled.weights, strict=True)])
        for each, members in zip(pools.found, pools.members, strict=True)
    ]
    of_tasks = [(pair.group.task, pair.group.quant, [(pair, 1.0)]) for pair in pairs]
    by_place: dict[tuple[str, str], list[Sequence[tuple[Pair, float]]]] = {}
    for task, quant, parts in [*of_pool, *of_tasks]:
        by_place.setdefault((task, quant), []).append(parts)
    return tuple(
        _average(task, quant, effects, stats) for (task, quant), effects in by_place.items() if len(effects) > 1
    )


Effect = Sequence[tuple[Pair, float]]
"""What a condition of one model costs: comparisons with their weights."""


def _average(task: str, quant: str, effects: Sequence[Effect], stats: StatsConfig) -> AcrossModels:
    losses = [sum(weight * pair.difference.difference for pair, weight in parts) for parts in effects]
    variances = [sum(weight**2 * effect_variance(pair.difference) for pair, weight in parts) for parts in effects]
    drops = [{pair.group.task: _drops(pair, stats) for pair, _ in parts} for parts in effects]
    shared = [
        _covariance(one, other, of_one, of_other)
        for place, (one, of_one) in enumerate(zip(effects, drops, strict=True))
        for other, of_other in zip(effects[place + 1 :], drops[place + 1 :], strict=True)
    ]
    groups = [parts[0][0].group for parts in effects]
    return AcrossModels(
        task=task,
        quant=quant,
        models=tuple(group.model for group in groups),
        families=tuple(map(_find_family, groups)),
        losses=tuple(losses),
        errors=tuple(float(np.sqrt(each)) for each in variances),
        average=random_effects(losses, variances, shared=float(np.mean(shared)), confidence=stats.confidence),
    )


def _drops(pair: Pair, stats: StatsConfig) -> "pd.Series[float]":
    scores = pair.unit_scores(stats)
    return scores["before"] - scores["after"]


def _covariance(one: Effect, other: Effect, of_one: Mapping[str, Any], of_other: Mapping[str, Any]) -> float:
    """Return the covariance by chance of what two models lose: they answered the same items, as far as they did."""
    total = 0.0
    partners = {pair.group.task: (pair, weight) for pair, weight in other}
    for pair, weight in one:
        task = pair.group.task
        if task not in partners or pair.group.identity.get("data") != partners[task][0].group.identity.get("data"):
            continue
        ours, theirs = of_one[task], of_other[task]
        both = pd.concat([ours - ours.mean(), theirs - theirs.mean()], axis=1, join="inner").to_numpy(dtype=float)
        shrink = finite_factor(len(ours), pair.difference.population) ** 2
        total += weight * partners[task][1] * float(both[:, 0] @ both[:, 1]) / (len(ours) * len(theirs)) * shrink
    return total


def _find_family(group: Group) -> str:
    """Return the family that a model is said to be of, or the architecture that its file says."""
    run = group.runs[-1]
    named = run.params.get("model.family", "")
    if named not in ("", "None"):
        return named
    return str(group.identity.get("model", {}).get("architecture", group.model))
