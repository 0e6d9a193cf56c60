"""Which runs may be compared, and the comparison itself: job records in, a summary out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantexp.config import Method, StatsConfig, Target, Unit
from quantexp.errors import UserError
from quantexp.identity import Identity, differences, short, varying
from quantexp.registration import Registration, report
from quantexp.report.summary import FLOOR_COUNTS, REPEATS, Comparison, Condition, Registered, Summary, points
from quantexp.stats import (
    Decision,
    DropPosterior,
    Kind,
    PairedComparison,
    compare,
    compare_units,
    decide,
    drop_posterior,
    estimate,
)
from quantexp.stats import Method as StatsMethod
from quantexp.tracking import FLOOR, STOPPED, JobRecord


@dataclass(frozen=True, slots=True)
class _Group:
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


def summarise(
    records: Sequence[JobRecord],
    failures: Sequence[str],
    stats: StatsConfig,
    title: str,
    registration: Registration | None = None,
) -> Summary:
    """Pair every quant with the baseline on the items (or, by `stats.unit`, the items of a seed) that both answered.

    Runs are paired only where everything but the quant and the seed is the same; where nothing
    fits, the summary says what differs instead of comparing.

    Raises:
        UserError: the target is the data's own items, and the runs do not say how many those are; or the runs were
            stopped by one method and are to be judged by another.
    """
    unit = stats.unit.value
    given = "given" if stats.unit is Unit.answer else "answered"
    groups = _labelled(_grouped(records))
    check_stopping(records, stats)
    _check_seeds(groups, stats)
    baselines = [group for group in groups if group.quant == stats.baseline]
    compared: list[tuple[_Group, PairedComparison]] = []
    refusals, notes = [], []
    if groups and not baselines:
        notes.append(
            f"Nothing is compared: no run here is of the baseline {stats.baseline}. Run it, or set stats.baseline."
        )
    for group in groups:
        if group.quant == stats.baseline or not baselines:
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
            notes.append(
                f"{group.quant} on {group.task} is compared on the {len(both)} {unit}s {given} by both quants; "
                f"{alone} {unit}s were {given} by one of them only."
            )
        compared.append((group, _compared(partner, group, both, stats)))
    decisions: list[Any] = [None] * len(compared)
    if compared and stats.method is not Method.bootstrap:
        margins = [stats.margins.get(group.runs[0].tags["task"], stats.margin) for group, _ in compared]
        decisions = [*decide([found for _, found in compared], margins, alpha=1 - stats.confidence)]
    return Summary(
        title=title,
        baseline=stats.baseline,
        conditions=tuple(_condition(group, stats) for group in groups),
        comparisons=tuple(
            Comparison(
                *(group.model, group.task, stats.baseline, group.quant),
                found,
                decision,
                posterior=_posterior(found, decision) if stats.bayes else None,
            )
            for (group, found), decision in zip(compared, decisions, strict=True)
        ),
        notes=tuple(dict.fromkeys([*_notes(groups, stats), *_repeats(compared, stats), *notes])),
        refusals=tuple(refusals),
        failures=tuple(failures),
        protocol=_protocol(groups, stats),
        unit=unit,
        registered=None if registration is None else _registered(registration, groups, compared, stats),
    )


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


def _check_seeds(groups: Sequence[_Group], stats: StatsConfig) -> None:
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
    groups: Sequence[_Group],
    compared: Sequence[tuple[_Group, PairedComparison]],
    stats: StatsConfig,
) -> Registered:
    """What was declared, beside what came of it."""
    scores = {(group.task, group.quant): group.answers.groupby(group.units(group.answers)).mean() for group in groups}
    return report(registration, stats, scores, [f"{group.task}/{group.quant}" for group, _ in compared])


def _compared(partner: _Group, group: _Group, both: pd.Index, stats: StatsConfig) -> PairedComparison:
    """The comparison on the items, or items and seeds, that both have."""
    level = None if stats.unit is Unit.answer else "item"
    before, after = (side.answers[side.answers.index.isin(both, level=level)].sort_index() for side in (partner, group))
    if stats.method is Method.sequential:
        before, after = group.as_drawn(before), group.as_drawn(after)
    if before.index.equals(after.index):
        units = None if stats.unit is Unit.answer else group.units(after)
        return compare(before.to_numpy(), after.to_numpy(), clusters=units, **_options(group, stats))
    # The same items under other seeds: only an item's means can be paired, not its single answers.
    ours, theirs = (
        np.asarray(side.groupby(each.units(side)).mean(), dtype=np.float64)
        for each, side in ((partner, before), (group, after))
    )
    return compare_units(ours, theirs, answers=len(before), design_effect=nan, **_options(group, stats))


def _options(group: _Group, stats: StatsConfig) -> dict[str, Any]:
    """What every estimate of a group is made with."""
    population = None
    if stats.target is Target.items:
        found = {run.metrics.get("items_in_data") for run in group.runs}
        if len(found) > 1 or None in found:
            raise UserError(
                f"stats.target=items needs to know how many items the data of {group.task} have, and the runs of "
                f"{group.quant} do not say; run them again with force=true, or set stats.target=population."
            )
        population = int(found.pop() or 0)
    return {
        "population": population,
        "confidence": stats.confidence,
        "resamples": stats.resamples,
        "seed": stats.seed,
        "method": StatsMethod(stats.method.value),
    }


def _grouped(records: Iterable[JobRecord]) -> list[_Group]:
    """Merge runs that differ only in the seed; of two runs with the same seed the newer counts."""
    merged: dict[str, dict[str, JobRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.started):
        key = repr((record.tags["task"], record.tags["quant"], record.identity))
        merged[key][record.tags["seed"]] = record
    groups = []
    for by_seed in merged.values():
        runs = tuple(by_seed.values())
        asked = pd.concat({seed: run.scores.dropna() for seed, run in by_seed.items()}, names=["seed", "item"])
        groups.append(
            _Group(
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


def _labelled(groups: Sequence[_Group]) -> list[_Group]:
    """Where a quant was run on a task in several ways, each way becomes a task of its own name."""
    ways: dict[tuple[str, str, str], list[_Group]] = defaultdict(list)
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


def _why_not(group: _Group, baselines: Sequence[_Group], baseline: str) -> str:
    """The sentence that refuses a pair and names the difference."""
    what = f"{group.quant} of {group.model} on {group.task}"
    runs = ", ".join(run.run_id[:8] for run in group.runs)
    near = [b for b in baselines if (b.model, b.runs[0].tags["task"]) == (group.model, group.runs[0].tags["task"])]
    if not near:
        return f"{what} (run {runs}) has no {baseline} run to compare with: run it, or set stats.baseline."
    partner = min(near, key=lambda b: len(varying(group.identity, [b.identity])))
    theirs = ", ".join(run.run_id[:8] for run in partner.runs)
    other = differences(group.identity, partner.identity)
    return f"{what} (run {runs}) cannot be paired with {baseline} (run {theirs}): {other}."


def _condition(group: _Group, stats: StatsConfig) -> Condition:
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
        file_bytes=int(newest.metrics["model_bytes"]),
        estimate=estimate(
            answers.to_numpy(),
            clusters=None if stats.unit is Unit.answer else group.units(answers),
            **_options(group, stats),
        ),
        items=group.items.size,
        repeats=len(group.runs),
        grader=str(group.identity["grader"]["id"]),
        tokens_per_second=tokens / seconds if seconds else None,
        run_ids=tuple(run.run_id for run in group.runs),
        floor=_floor(group),
    )


def _floor(group: _Group) -> dict[str, int] | None:
    """What changed when the same items were answered twice, over all runs; None unless all of them measured it."""
    if not all(f"{FLOOR}.answers" in run.metrics for run in group.runs):
        return None
    return {key: int(sum(run.metrics[f"{FLOOR}.{key}"] for run in group.runs)) for key in FLOOR_COUNTS}


def _notes(groups: Sequence[_Group], stats: StatsConfig) -> Iterable[str]:
    """What a reader must know beside the numbers."""
    runs = [run for group in groups for run in group.runs]
    if any(run.tags["data"] == "bundled" for run in runs):
        yield (
            "Data: bundled. These are the items that ship with quantexp, written for it; scores on them cannot be "
            "compared with scores on the public benchmarks of the same name."
        )
    if stats.unit is Unit.answer and groups:
        counts = {f"{len(group.answers)} answers to {group.items.size} items on {group.task}": None for group in groups}
        yield (
            f"n is the number of answers, each answer counted as independent (stats.unit=answer): {', '.join(counts)}. "
            "Where items repeat, the intervals are too narrow and p is too small; stats.unit=item counts an item once."
        )
    early = [
        f"{group.quant} on {group.task} after {run.tags[STOPPED]}"
        for group in groups
        for run in group.runs
        if STOPPED in run.tags
    ]
    if early:
        yield (
            f"Decided early: {', '.join(early)}. A difference that decides early exaggerates what it shows; its "
            "interval holds all the same."
        )
    for run in runs:
        if note := run.params.get("model.note"):
            yield f"{run.tags['model']}: {note}"
    for key, what in {
        "items_not_asked": "items that did not fit the context and count in no score",
        "items_cut_at_max_tokens": "answers cut off at max_tokens",
    }.items():
        for group in groups:
            if count := sum(run.metrics[key] for run in group.runs):
                of = sum(run.metrics["items"] for run in group.runs)
                yield f"{group.quant} on {group.task}: {what}: {count:.0f} of {of:.0f}."
    for group in groups:
        compared = sum(run.metrics.get("verify.compared", 0) for run in group.runs)
        identical = sum(run.metrics.get("verify.identical", 0) for run in group.runs)
        if compared:
            meaning = "" if identical == compared else "; its scores hold noise of the engine's own"
            yield (
                f"{group.quant} on {group.task}: exactness measured before the run: {identical:.0f} of {compared:.0f} "
                f"answers came out bit for bit the same in another order and beside others{meaning}."
            )
    for group in groups:
        if (floor := _floor(group)) is not None:
            yield (
                f"Noise floor: {group.quant} on {group.task}, answered a second time in the opposite order, lost "
                f"{floor['lost']} and gained {floor['gained']} of {floor['answers']} answers, and {floor['churn']} "
                "were read differently. Changes no larger than these are noise of the engine."
            )
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        files[run.tags["model"], run.tags["quant"]].add(run.params["file.sha256"])
    for (model, quant), hashes in files.items():
        if len(hashes) > 1:
            yield f"{quant} of {model} stands for {len(hashes)} different files in these runs; compare them apart."


def _repeats(compared: Sequence[tuple[_Group, PairedComparison]], stats: StatsConfig) -> Iterable[str]:
    """What repeated items cost, where each counts once."""
    by_task: dict[str, list[PairedComparison]] = defaultdict(list)
    for group, found in compared:
        if found.answers > found.n and stats.unit is Unit.item:
            by_task[group.task].append(found)
    for task, each in by_task.items():
        effects = sorted(found.design_effect for found in each if found.design_effect == found.design_effect)
        if not effects:
            continue
        low, high = f"{effects[0]:.2f}", f"{effects[-1]:.2f}"
        yield (
            f"{task}: {each[0].answers} answers to {each[0].n} unique items, each of which counts once. Design effect "
            f"{low if low == high else f'{low} to {high}'}: the variance is as much larger than if all answers were "
            "independent."
        )


def _protocol(groups: Sequence[_Group], stats: StatsConfig) -> dict[str, str]:
    """Facts that identify the measurement, each with all the values it took."""
    facts: dict[str, dict[str, None]] = defaultdict(dict)
    for group in groups:
        for run in group.runs:
            for aspect, entries in run.identity.items():
                for key, value in entries.items():
                    of_task = aspect in {"data", "prompt", "grader"} or key == "max_tokens"
                    facts[f"{aspect} {key}" + (f" ({group.task})" if of_task else "")][str(value)] = None
            facts[f"file sha256 ({group.model} {group.quant})"][run.params["file.sha256"]] = None
            for tag in (
                "quantexp.version",
                "quantexp.commit",
                "quantexp.dirty",
                "host.processor",
                "engine.system",
            ):
                facts[tag][run.tags[tag]] = None
            facts["seeds"][run.tags["seed"]] = None
    return {name: ", ".join(values) for name, values in facts.items()} | {"statistics": _statistics(stats)}


def _statistics(stats: StatsConfig) -> str:
    """The methods, in words."""
    unit = stats.unit.value
    drawn = f"{stats.resamples:,} resamples, seed {stats.seed}"
    if stats.method is Method.bootstrap:
        intervals = f"{stats.confidence:.0%} intervals"
        return f"percentile bootstrap over {unit}s, {drawn}, {intervals}; {REPEATS[unit]}; no verdicts"
    if stats.method is Method.sequential:
        return (
            f"e-values by betting, which hold after any number of items: {stats.confidence:.0%} confidence sequences "
            "over items in random order; a job ends with its verdict; p after Holm over all comparisons of this "
            f"report; margin {_margins(stats)}"
        )
    about = "the data's own items" if stats.target is Target.items else "the items that the data sample"
    return (
        f"{stats.confidence:.0%} intervals over {unit}s; {REPEATS[unit]}; about {about}; right or wrong: Tango's score "
        "interval and McNemar's mid-p, one score by Wilson; graded: percentile bootstrap and sign-flip test, exact "
        f"where the scores allow it, otherwise {drawn}; p after Holm over all comparisons of this report; margin "
        f"{_margins(stats)}"
    )


def _margins(stats: StatsConfig) -> str:
    return ", ".join(
        [f"{points(stats.margin)} points", *(f"{task} {points(of)}" for task, of in stats.margins.items())]
    )
