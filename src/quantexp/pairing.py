"""Which runs may be compared, and the comparison itself: job records in, a summary out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from quantexp.config import StatsConfig, Unit
from quantexp.report.summary import REPEATS, Comparison, Condition, Summary
from quantexp.stats import bootstrap_mean, paired_bootstrap
from quantexp.tracking import JobRecord

Identity = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Group:
    """The runs of one quant that differ in nothing but the seed, merged.

    Attributes:
        scores: what counts once (`Unit`), by item, or by item and seed.
    """

    model: str
    task: str
    quant: str
    identity: Identity
    runs: tuple[JobRecord, ...]
    scores: "pd.Series[float]"


def summarise(records: Sequence[JobRecord], failures: Sequence[str], stats: StatsConfig, title: str) -> Summary:
    """Pair every quant with the baseline on the items (or, by `stats.unit`, the items of a seed) that both answered.

    Runs are paired only where everything but the quant and the seed is the same; where nothing
    fits, the summary says what differs instead of comparing.
    """
    unit = stats.unit.value
    given = "given" if stats.unit is Unit.answer else "answered"
    groups = _labelled(_grouped(records, stats.unit))
    baselines = [group for group in groups if group.quant == stats.baseline]
    comparisons, refusals, notes = [], [], []
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
        both = partner.scores.index.intersection(group.scores.index, sort=True)
        if both.empty:
            refusals.append(
                f"{group.quant} and {stats.baseline} of {group.model} on {group.task} have no {unit} in common: "
                "run both with the same seed and task.limit."
            )
            continue
        alone = len(partner.scores.index.symmetric_difference(group.scores.index))
        if alone:
            notes.append(
                f"{group.quant} on {group.task} is compared on the {len(both)} {unit}s {given} by both quants; "
                f"{alone} {unit}s were {given} by one of them only."
            )
        difference = paired_bootstrap(
            partner.scores[both].to_numpy(),
            group.scores[both].to_numpy(),
            resamples=stats.resamples,
            seed=stats.seed,
            confidence=stats.confidence,
        )
        comparisons.append(Comparison(group.model, group.task, stats.baseline, group.quant, difference))
    return Summary(
        title=title,
        baseline=stats.baseline,
        conditions=tuple(_condition(group, stats) for group in groups),
        comparisons=tuple(comparisons),
        notes=tuple(dict.fromkeys([*_notes(groups, stats), *notes])),
        refusals=tuple(refusals),
        failures=tuple(failures),
        protocol=_protocol(groups, stats),
        unit=unit,
    )


def _grouped(records: Iterable[JobRecord], unit: Unit) -> list[_Group]:
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
                # Items first also with seeds: where none repeats, the same order, so the same resamples.
                scores=asked.groupby(level=["item", "seed"] if unit is Unit.answer else "item").mean(),
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
        return ", ".join(f"{key}={_short(value)}" for key, value in _varying(way, all_ways))

    alike: list[Identity] = []
    for way in all_ways:
        if words(way) == words(identity) and way not in alike:
            alike.append(way)
    return words(identity) + (f" #{alike.index(identity) + 1}" if len(alike) > 1 else "")


def _varying(identity: Identity, others: Sequence[Identity]) -> list[tuple[str, object]]:
    """The entries of an identity that are not the same in all the others; None for one that it lacks."""
    entries = dict.fromkeys((aspect, key) for each in (identity, *others) for aspect in each for key in each[aspect])
    return [
        (f"{aspect}.{key}", _entry(identity, aspect, key))
        for aspect, key in entries
        if any(_entry(other, aspect, key) != _entry(identity, aspect, key) for other in others)
    ]


def _entry(identity: Identity, aspect: str, key: str) -> object:
    return identity.get(aspect, {}).get(key)


def _short(value: object) -> str:
    text = "not recorded" if value is None else str(value)
    return f"{text[:8]}…" if len(text) > 40 else text


def _why_not(group: _Group, baselines: Sequence[_Group], baseline: str) -> str:
    """The sentence that refuses a pair and names the difference."""
    what = f"{group.quant} of {group.model} on {group.task}"
    runs = ", ".join(run.run_id[:8] for run in group.runs)
    near = [b for b in baselines if (b.model, b.runs[0].tags["task"]) == (group.model, group.runs[0].tags["task"])]
    if not near:
        return f"{what} (run {runs}) has no {baseline} run to compare with: run it, or set stats.baseline."
    partner = min(near, key=lambda b: len(_varying(group.identity, [b.identity])))
    differences = "; ".join(
        f"{key} is {_short(value)} here and {_short(_entry(partner.identity, aspect, name))} there"
        for key, value in _varying(group.identity, [partner.identity])
        for aspect, name in [key.split(".", 1)]
    )
    theirs = ", ".join(run.run_id[:8] for run in partner.runs)
    return f"{what} (run {runs}) cannot be paired with {baseline} (run {theirs}): {differences}."


def _condition(group: _Group, stats: StatsConfig) -> Condition:
    newest = group.runs[-1]
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
        estimate=bootstrap_mean(
            group.scores.to_numpy(),
            resamples=stats.resamples,
            seed=stats.seed,
            confidence=stats.confidence,
        ),
        items=group.scores.index.unique("item").size,
        repeats=len(group.runs),
        grader=str(group.identity["grader"]["id"]),
        tokens_per_second=tokens / seconds if seconds else None,
        run_ids=tuple(run.run_id for run in group.runs),
    )


def _notes(groups: Sequence[_Group], stats: StatsConfig) -> Iterable[str]:
    """What a reader must know beside the numbers."""
    runs = [run for group in groups for run in group.runs]
    for hypothesis in dict.fromkeys(run.params.get("hypothesis", "") for run in runs):
        if hypothesis:
            yield f"Hypothesis, written down before the first run: {hypothesis}"
    if any(run.tags["data"] == "bundled" for run in runs):
        yield (
            "Data: bundled. These are the items that ship with quantexp, written for it; scores on them cannot be "
            "compared with scores on the public benchmarks of the same name."
        )
    if stats.unit is Unit.answer and groups:
        counts = {
            f"{len(group.scores)} answers to {group.scores.index.unique('item').size} items on {group.task}": None
            for group in groups
        }
        yield (
            f"n is the number of answers, each answer counted as independent (stats.unit=answer): {', '.join(counts)}. "
            "Where items repeat, the intervals are too narrow and p is too small; stats.unit=item counts an item once."
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
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        files[run.tags["model"], run.tags["quant"]].add(run.params["file.sha256"])
    for (model, quant), hashes in files.items():
        if len(hashes) > 1:
            yield f"{quant} of {model} stands for {len(hashes)} different files in these runs; compare them apart."


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
    unit = stats.unit.value
    fixed = {
        "statistics": f"percentile bootstrap over {unit}s, {stats.resamples:,} resamples, seed {stats.seed}, "
        f"{stats.confidence:.0%} intervals; {REPEATS[unit]}",
    }
    return {name: ", ".join(values) for name, values in facts.items()} | fixed
