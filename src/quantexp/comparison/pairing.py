"""Pairing of runs that may be compared, and their comparison: job records in, a summary out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from quantexp.comparison.caveats import (
    describe_protocol,
    list_caveats,
    list_file_caveats,
    name_groups,
    quantized_sources,
    repeats_in,
)
from quantexp.comparison.conditions import LabelledRuns, label_runs
from quantexp.comparison.costs import known_cost
from quantexp.comparison.groups import Group, label_groups, merge_seeds
from quantexp.comparison.interactions import find_interactions
from quantexp.comparison.pairs import Pair, choose_options, make_pair
from quantexp.comparison.pools import compare_models, decide_in_order, make_pools
from quantexp.comparison.preregistration import report
from quantexp.comparison.summary import Comparison, Condition, Registered, Summary
from quantexp.config import Method, StatsConfig, Unit
from quantexp.config.identity import differences, select_varying
from quantexp.models.footprint import Footprint, read_footprints
from quantexp.stats import (
    AtK,
    Decision,
    DropPosterior,
    Kind,
    PairedComparison,
    at_k,
    drop_posterior,
    estimate,
)
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.registration import Registration
from quantexp.tracking.tags import ITEMS, MEMORY, STOPPED
from quantexp.util.errors import UserError


def summarise(
    records: Sequence[JobRecord],
    failures: Sequence[str],
    stats: StatsConfig,
    title: str,
    registration: Registration | None = None,
    unpaired: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Pair each condition with the baseline on the items (or, by `stats.unit`, the items of a seed) that both answered.

    Runs are paired only where everything but the condition and the seed is the same; where nothing
    fits, the summary says what differs instead of comparing.

    Args:
        records: finished jobs.
        failures: a sentence for each job that is left out.
        stats: how to compare.
        title: of the summary.
        registration: what was declared before the first answer, if anything was.
        unpaired: by the id of a run the sentence that refuses it, if something else than its identity does.

    Raises:
        UserError: the target is the data's own items, and the runs do not say how many those are; or the runs were
            stopped by one method and are to be judged by another.
    """
    files, as_given = records, stats  # by the quants' own names, and as a declaration has them
    named = label_runs(records, stats, registration)
    records, stats = named.records, replace(stats, baseline=named.baseline)
    unit = stats.unit.value
    given = "given" if stats.unit is Unit.answer else "answered"
    groups = label_groups(merge_seeds(records))
    if registration is not None:
        order = registration.order
        models = registration.models
        groups.sort(
            key=lambda group: (
                models.get(group.model, len(models)),
                *_asked_for(group, named.declared[group.runs[0].run_id], stats.baseline, order),
            )
        )
    check_stopping(records, stats)
    _check_seeds(groups, stats)
    baselines = [group for group in groups if group.quant == stats.baseline]
    compared: list[Pair] = []
    refusals, partly, notes = [], [], []
    if groups and not baselines:
        notes.append(
            f"Nothing is compared: no run here is of the baseline {stats.baseline}; run it, or set stats.baseline."
        )
    for name, group in zip(name_groups(groups), groups, strict=True):
        if group.quant == stats.baseline or not baselines:
            continue
        if refusal := unpaired.get(group.runs[0].run_id):
            refusals.append(refusal)
            continue
        same = (group.model, group.task, group.identity)
        partner = next((b for b in baselines if (b.model, b.task, b.identity) == same), None)
        if partner is None:
            refusals.append(_why_not(group, baselines, stats.baseline))
            continue
        sides = [each.answers.index if stats.unit is Unit.answer else each.items for each in (partner, group)]
        both = sides[0].intersection(sides[1], sort=True)
        if both.empty:
            refusals.append(
                f"{group.quant} and {stats.baseline} of {group.model} on {group.task} have no {unit} in common: "
                "run both with the same seed and task.limit."
            )
            continue
        alone = len(sides[0].symmetric_difference(sides[1]))
        if alone and not any(STOPPED in run.tags for run in group.runs):
            partly.append(f"{name} on {len(both)} of {len(both) + alone}")
        compared.append(make_pair(partner, group, both, stats))
    if partly:
        notes.append(f"Compared on the {unit}s {given} under both quants, which are not all: {', '.join(partly)}.")
    pools = make_pools(compared, groups, stats)
    decisions, pooled = decide_in_order(compared, pools, stats)
    notes += pools.missing
    return Summary(
        title=title,
        baseline=stats.baseline,
        conditions=tuple(_condition(group, stats, named) for group in groups),
        comparisons=tuple(
            Comparison(
                *(pair.group.model, pair.group.task, stats.baseline, pair.group.quant),
                pair.difference,
                decision,
                posterior=_posterior(pair.difference, decision) if stats.bayes else None,
            )
            for pair, decision in zip(compared, decisions, strict=True)
        ),
        notes=tuple(
            dict.fromkeys(
                [*notes, *list_file_caveats(files), *list_caveats(groups, stats), *repeats_in(compared, stats)]
            )
        ),
        refusals=tuple(refusals),
        failures=tuple(failures),
        protocol=describe_protocol(groups, stats),
        unit=unit,
        quantized_sources=quantized_sources(records),
        interactions=find_interactions(groups, named.levels, stats.baseline, stats),
        registered=None if registration is None else _registered(registration, groups, compared, as_given),
        pools=pooled,
        unpooled=pools.missing,
        across=compare_models(compared, pools, stats),
    )


def _asked_for(group: Group, name: str, baseline: str, order: Mapping[str, int]) -> tuple[int, int]:
    """Its place in what a sweep asked for; jobs may have begun in another order, or the clock been set. Baseline first.

    `name` is what the condition was declared under. A baseline was declared under none, so that another one's comes
    next; what the sweep did not ask for comes last.
    """
    task = group.task_name
    is_former = group.quant != name and f"{task}/{name}" not in order
    of_quant = -2 if group.quant == baseline else -1 if is_former else order.get(f"{task}/{name}", len(order))
    return order.get(task, len(order)), of_quant


def check_stopping(records: Sequence[JobRecord], stats: StatsConfig) -> None:
    """Refuse runs that were stopped once they were decided to any method but the one that decided.

    Raises:
        UserError: there is such a run.
    """
    for run in records:
        if stats.method is not Method.sequential and STOPPED in run.tags:
            raise UserError(
                f"{run.name} was stopped as soon as its verdict was known, so only stats=sequential can judge it; with "
                f"stats={'published' if stats.method is Method.bootstrap else 'default'} run the sweep again: what has "
                "been answered is taken from the store."
            )


def _check_seeds(groups: Sequence[Group], stats: StatsConfig) -> None:
    for group in groups:
        if stats.method is Method.sequential and len(group.runs) > 1:
            what = f"{group.quant} of {group.model} on {group.task}"
            raise UserError(f"stats=sequential takes one seed, and {what} was run with {len(group.runs)}.")


def _posterior(found: PairedComparison, decision: Decision | None) -> DropPosterior | None:
    if decision is None or found.kind is not Kind.binary:
        return None
    return drop_posterior(found.lost, found.gained, found.n, margin=decision.margin, confidence=found.confidence)


def _registered(
    registration: Registration,
    groups: Sequence[Group],
    compared: Sequence[Pair],
    stats: StatsConfig,
) -> Registered:
    """Return the declaration beside its outcome."""
    scores: dict[str, dict[tuple[str, str], pd.Series[float]]] = {}
    for group in groups:
        scores.setdefault(group.model, {})[group.task, group.quant] = group.by_unit
    names: dict[str, list[str]] = {}
    for group in (pair.group for pair in compared):
        # By the task's own name: a way of running it that is told apart here was declared under it.
        names.setdefault(group.model, []).append(f"{group.task_name}/{group.quant}")
    counts = [_count_answers(run, registration.sweep) for group in groups for run in group.runs]
    return report(registration, stats, scores, names, *(sum(each) for each in zip(*counts, strict=True)))


def _count_answers(run: JobRecord, sweep: str) -> tuple[int, int]:
    """Count a run's answers that existed before the sweep's declaration, as far as is known, and all of them."""
    sources = ("run.completions_generated", "run.completions_from_store")
    answers = int(sum(run.metrics.get(source, 0) for source in sources))
    # A job that was taken over from elsewhere had finished before this sweep came to it.
    taken_over = run.tags.get("mlflow.parentRunId") != sweep
    return answers if taken_over else int(run.metrics.get("run.completions_before_declaration", 0)), answers


def _why_not(group: Group, baselines: Sequence[Group], baseline: str) -> str:
    """Return the sentence that refuses a pair and names the difference."""
    what = f"{group.quant} of {group.model} on {group.task}"
    runs = ", ".join(run.run_id[:8] for run in group.runs)
    near = [b for b in baselines if (b.model, b.task_name) == (group.model, group.task_name)]
    if not near:
        return f"{what} (run {runs}) has no {baseline} run to compare with: run it, or set stats.baseline."
    partner = min(near, key=lambda b: len(select_varying(group.identity, [b.identity])))
    theirs = ", ".join(run.run_id[:8] for run in partner.runs)
    other = differences(group.identity, partner.identity)
    return f"{what} (run {runs}) cannot be paired with {baseline} (run {theirs}): {other}."


def _condition(group: Group, stats: StatsConfig, named: LabelledRuns) -> Condition:
    newest = group.runs[-1]
    answers = group.as_drawn(group.answers) if stats.method is Method.sequential else group.answers
    tokens = sum(run.metrics["completion_tokens"] for run in group.runs)
    seconds = sum(
        run.metrics["completion_tokens"] / run.metrics["run.tokens_per_second"]
        for run in group.runs
        if run.metrics["run.tokens_per_second"]
    )
    return Condition(
        model=group.model,
        quant=group.quant,
        task=group.task,
        bits_per_weight=newest.metrics["bits_per_weight"],
        file_bytes=int(newest.metrics["model_bytes"]) if "model_bytes" in newest.metrics else None,
        estimate=estimate(
            answers.to_numpy(),
            clusters=None if stats.unit is Unit.answer else group.units(answers),
            **choose_options(group, stats),
        ),
        items=group.items.size,
        repeats=len(group.runs),
        grader=str(group.identity["grader"]["id"]),
        tokens_per_second=tokens / seconds if seconds else None,
        speed_range=_speed_range(group.runs) if seconds else None,
        run_ids=tuple(run.run_id for run in group.runs),
        tables={run.run_id: run.table for run in group.runs if run.table != ITEMS},
        floor=group.floor,
        rules=group.rules,
        busy=max(run.metrics.get("run.share_of_others", 0.0) for run in group.runs),
        cost=known_cost(group.runs),
        items_in_data=int(newest.metrics["items_in_data"]) if "items_in_data" in newest.metrics else None,
        sampled=_sampled(group, stats),
        levels=named.levels[newest.run_id],
        kv_bytes=newest.metrics.get("run.kv_bytes_per_token"),
        context=_context_of(newest),
        is_placebo=newest.run_id in named.placebos,
        prompt_tokens_per_second=_reading_speed(group.runs),
        footprints=_footprints_of(newest),
    )


def _reading_speed(runs: Sequence[JobRecord]) -> float | None:
    """Return the mean speed of reading prompts, over the runs that have timed it."""
    known = [speed for run in runs if (speed := run.metrics.get("run.prompt_tokens_per_second"))]
    return sum(known) / len(known) if known else None


def _footprints_of(run: JobRecord) -> tuple[Footprint, ...]:
    text = run.params.get(MEMORY)
    return () if text is None else read_footprints(text)


def _context_of(run: JobRecord) -> int | None:
    known = run.params.get("engine.context", "")
    return int(known) if known.isdecimal() and run.params.get("engine.name") == "llama_cpp" else None


def _sampled(group: Group, stats: StatsConfig) -> tuple[AtK, ...]:
    """Return pass@k and majority@k over the answers of all runs; none if a run does not say what was read."""
    columns: dict[str, list[Any]] = {"score": [], "read": [], "item": [], "sample": [], "unit": []}
    for run in group.runs:
        answers = run.answers
        if answers is None or answers.read is None or answers.asked.samples is None or answers.asked.places is None:
            return ()
        items = answers.asked.item_ids
        columns["score"].append(answers.score)
        columns["read"].append(answers.read)
        columns["item"].append([f"{run.tags['seed']} {item}" for item in items])  # a seed's answers are a draw of k
        columns["sample"].append(answers.asked.samples)
        columns["unit"].append([group.clusters.get(item, item) for item in items])
    score, read, item, sample, unit = (np.concatenate(each) for each in columns.values())
    clusters = None if stats.unit is Unit.answer else unit
    return at_k(score, read, item, sample, clusters=clusters, **choose_options(group, stats))


def _speed_range(runs: Sequence[JobRecord]) -> tuple[float, float] | None:
    """Return the lowest 10th and the highest 90th percentile of tokens per second; None if a run has none."""
    names = [f"run.tokens_per_second_{end}" for end in ("low", "high")]
    known = [[run.metrics.get(name) for name in names] for run in runs if run.metrics["run.tokens_per_second"]]
    lows, highs = ([each[side] for each in known] for side in (0, 1))
    found_lows, found_highs = [x for x in lows if x is not None], [x for x in highs if x is not None]
    return (min(found_lows), max(found_highs)) if len(found_lows) == len(found_highs) == len(known) else None
