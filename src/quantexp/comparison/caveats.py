"""Caveats beside the numbers: where they come from, what limits them, and how they were made."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from quantexp.comparison.groups import Group
from quantexp.comparison.pairs import Pair
from quantexp.comparison.wording import REPEATS, points
from quantexp.config import Method, Pool, StatsConfig, Target, Unit
from quantexp.stats import PairedComparison
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.tags import (
    DATA_FILE,
    DATA_ROWS,
    FLOOR_BY,
    GRADING,
    MATRIX,
    MISNOMER,
    SOURCE_BITS,
    SOURCE_TYPE,
    STOPPED,
    TYPES,
    WARNINGS,
)

FULL_PRECISION = 16.0
"""Bits of a weight that is not quantized, at least."""


def list_caveats(groups: Sequence[Group], stats: StatsConfig) -> Iterable[str]:
    """Yield the caveats beside the numbers, the most important first.

    First what may make a difference between quants that is none of the weights, then what limits what it says, then
    where the numbers come from. What a line break parts from the first line is for the report alone.
    """
    runs = [run for group in groups for run in group.runs]
    named = list(zip(name_groups(groups), groups, strict=True))
    yield from _noise(named)
    yield from _about_servers(groups)
    yield from _about_sampling(named)
    yield from _about_judges(runs)
    for key, what in {
        "items_not_asked": "Items that did not fit the context and count in no score",
        "items_cut_at_max_tokens": "Answers cut off at max_tokens",
        "items_ended_in_reasoning": "Outputs that ended before an answer had begun, which score 0 (raise "
        "task.reasoning_tokens, or set task.reasoning_end=force)",
        "items_undecided": "Answers on which the judge came to no verdict, and which count in no score",
        "items_unfinished": "Answers cut off before they came to an answer, which were not read and score 0",
    }.items():
        counts = {
            name: [sum(run.metrics.get(each, 0) for run in group.runs) for each in (key, "items")]
            for name, group in named
        }
        if found := [f"{name} {count:.0f} of {of:.0f}" for name, (count, of) in counts.items() if count]:
            yield f"{what}: {', '.join(found)}."
    if stats.unit is Unit.answer and groups:
        sizes = {f"{len(group.answers)} answers to {group.items.size} items on {group.task}": None for group in groups}
        yield (
            f"n is the number of answers, each answer counted as independent (stats.unit=answer): {', '.join(sizes)}.\n"
            "Where items repeat, the intervals are too narrow and p is too small; stats.unit=item counts an item once."
        )
    early = [f"{name} after {run.tags[STOPPED]}" for name, group in named for run in group.runs if STOPPED in run.tags]
    if early:
        yield (
            f"Decided early: {', '.join(early)}.\nA difference that decides early exaggerates what it shows; its "
            "interval holds all the same."
        )
    if any(run.tags["data"] == "bundled" for run in runs):
        yield (
            "The items ship with quantexp, written for it (data=bundled): scores cannot be compared with those on the "
            "public benchmarks of the same name."
        )
    for run in runs:
        if note := run.params.get("model.note"):
            yield f"{run.tags['model']}: {note}"


def _about_judges(runs: Sequence[JobRecord]) -> Iterable[str]:
    """Yield who has graded, if that was a judge or an embedder, and what it was measured to be worth."""
    for name, what in (("judge", "Verdicts are of the judge"), ("embedder", "Similarities are of the embedder")):
        key = f"{GRADING}{name}"
        found: dict[str, dict[str, None]] = {}
        for run in runs:
            if key in run.tags:
                said = [value for tag, value in sorted(run.tags.items()) if tag.startswith(f"{key}.")]
                found.setdefault(run.tags[key], {}).update(dict.fromkeys(said))
        for identity, measured in found.items():
            yield "\n".join([f"{what} {identity}.", *(f"{each[:1].upper()}{each[1:]}." for each in measured)])


def list_file_caveats(records: Sequence[JobRecord]) -> Iterable[str]:
    """Yield caveats about the files behind the names, also of those that no table shows."""
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    odd: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    misnomers: dict[str, dict[str, None]] = defaultdict(dict)
    for run in records:
        model, quant = run.tags["model"], run.tags["quant"]
        files[model, quant].add(run.params["file.sha256"])
        if warnings := run.params.get(WARNINGS):
            odd[model, warnings][quant] = None
        if misnomer := run.params.get(MISNOMER):
            shown = misnomer if misnomer.startswith(f"{quant},") else f"{quant} ({misnomer})"
            misnomers[model][shown] = None
    for (model, quant), hashes in files.items():
        if len(hashes) > 1:
            yield f"{quant} of {model} stands for {len(hashes)} different files in these runs; compare them apart."
    for (model, warnings), quants in odd.items():
        yield f"llama.cpp warns of the file of {model} ({', '.join(quants)}): {warnings.rstrip('.')}."
    for model, source in quantized_sources(records).items():
        yield (
            f"{model}: its quants are made from a file that is itself quantized ({source}), so their order is an "
            "artefact of that file.\nWider types such as F16 or Q8_0 hold the weights of that file and no better ones, "
            "so losses are smaller than against the full model."
        )
    for model, named in misnomers.items():
        yield (
            f"The files of {model} hold mostly other types than their names say: {'; '.join(named)}.\nllama.cpp "
            "takes another type for tensors that do not fit the named one, and publishers mix their own. The facts of "
            "the measurement list the types of each file."
        )


def quantized_sources(records: Iterable[JobRecord]) -> dict[str, str]:
    """Models whose quants were made from a file that is quantized itself, and what that file holds."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for run in records:
        bits = float(run.params.get(SOURCE_BITS, FULL_PRECISION))
        if bits < FULL_PRECISION:
            held = f"{run.params[SOURCE_TYPE].removeprefix('MOSTLY_')}, {bits:.1f} bits per weight"
            found[run.tags["model"]][held] = None
    return {model: " and ".join(held) for model, held in found.items()}


def _noise(named: Sequence[tuple[str, Group]]) -> Iterable[str]:
    """Yield the measured noise floor of the engine."""
    for name, group in named:
        if (floor := group.floor) is not None:
            how = " or ".join(dict.fromkeys(run.tags.get(FLOOR_BY, "in the opposite order") for run in group.runs))
            yield (
                f"Noise floor: {name}, answered a second time {how}, lost "
                f"{floor['lost']} and gained {floor['gained']} of {floor['answers']} answers, and {floor['churn']} "
                "were read differently.\nChanges no larger than these are noise of the engine."
            )
    noisy, exact, compared = [], 0, 0
    for name, group in named:
        of = sum(run.metrics.get("verify.compared", 0) for run in group.runs)
        identical = sum(run.metrics.get("verify.identical", 0) for run in group.runs)
        exact, compared = exact + int(identical), compared + int(of)
        if identical < of:
            noisy.append(f"{name} {identical:.0f} of {of:.0f}")
    if compared:
        found = f": {', '.join(noisy)}" if noisy else f": {exact} of {compared}"
        yield (
            f"Answers that came out bit for bit the same in another order and beside others{found}"
            f"{'; scores hold noise of the engine' if noisy else ''}."
        )


def name_groups(groups: Sequence[Group]) -> list[str]:
    """Name each group for a sentence; with the model only if there are several."""
    several = len({group.model for group in groups}) > 1
    return [f"{group.quant}{f' of {group.model}' if several else ''} on {group.task}" for group in groups]


def _about_servers(groups: Sequence[Group]) -> Iterable[str]:
    """Yield caveats about answers from servers."""
    remote = [group for group in groups if group.identity.get("settings", {}).get("engine") == "openai"]
    systems = {
        f"{group.quant} by {run.tags.get('engine.system', 'an unknown server')}": None
        for group in remote
        for run in group.runs
    }
    if len({words.partition(" by ")[2] for words in systems}) > 1:
        yield (
            f"Different servers answered ({', '.join(systems)}), so a difference between quants holds what differs "
            "between the servers too."
        )
    shown = [run.tags.get("engine.template", "") for group in remote for run in group.runs]
    if len({each for each in shown if each}) > 1:
        yield "The servers applied different chat templates, so the quants were not asked in the same words."
    for group in remote:
        for run in group.runs:
            if ", " in (several := run.tags.get("engine.fingerprints", "")):
                yield (
                    f"{group.quant} on {group.task}: the server's set-up changed while it answered (system_fingerprint "
                    f"{several})."
                )
    given = dict.fromkeys(group.quant for group in remote for run in group.runs if "model_bytes" not in run.metrics)
    if given:
        yield f"Bits per weight of {', '.join(given)} are as given (quant.bits_per_weight), not measured."


def _about_sampling(named: Sequence[tuple[str, Group]]) -> Iterable[str]:
    """Yield what the way of choosing tokens may have done to the answers."""
    warned: dict[tuple[str, str], None] = {}
    drawn: dict[str, list[str]] = defaultdict(list)
    for name, group in named:
        decoding = str(group.identity.get("settings", {}).get("decoding", "greedy"))
        if not decoding.startswith("greedy"):
            drawn[decoding].append(name)
            continue
        # Plain text is read; nothing is chosen.
        for run in (each for each in group.runs if each.params.get("task.window", "None") == "None"):
            if (warning := run.params.get("model.sampling.greedy_warning", "False")) not in ("", "False"):
                warned[run.tags["model"], warning] = None
    for model, warning in warned:
        said = "" if warning == "True" else f": {warning.rstrip('.')}"
        yield (
            f"{model}: its publisher warns against greedy decoding, and answers here are greedy{said}.\n"
            "task.sampling=model takes what the publisher recommends."
        )
    for decoding, names in drawn.items():
        yield (
            f"Answers are drawn ({decoding}): {', '.join(names)}.\nA part of what changes between quants is luck, "
            "which intervals over items hold."
        )


def repeats_in(compared: Sequence[Pair], stats: StatsConfig) -> Iterable[str]:
    """Yield the design effect of repeated items, where each counts once."""
    by_task: dict[str, list[PairedComparison]] = defaultdict(list)
    for pair in compared:
        if pair.difference.answers > pair.difference.n and stats.unit is Unit.item:
            by_task[pair.group.task].append(pair.difference)
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


def describe_protocol(groups: Sequence[Group], stats: StatsConfig) -> dict[str, str]:
    """Facts that identify the measurement, each with all the values it took."""
    facts: dict[str, dict[str, None]] = defaultdict(dict)
    for group in groups:
        for run in group.runs:
            for aspect, entries in run.identity.items():
                for key, value in entries.items():
                    of_task = aspect in {"data", "prompt", "reader", "grader"} or key == "max_tokens"
                    facts[f"{aspect} {key}" + (f" ({group.task})" if of_task else "")][str(value)] = None
            facts[f"file sha256 ({group.model} {group.quant})"][run.params["file.sha256"]] = None
            for key, what in ((TYPES, "file types"), (MATRIX, "importance matrix")):
                if held := run.params.get(key):  # not of earlier versions, nor of a server's model
                    facts[f"{what} ({group.model} {group.quant})"][held] = None
            for tag in (
                "quantexp.version",
                "quantexp.commit",
                "quantexp.dirty",
                "host.processor",
                "engine.system",
            ):
                facts[tag][run.tags.get(tag, "not recorded")] = None
            if file := run.tags.get(DATA_FILE):
                facts[f"data file ({group.task})"][f"{file}, {run.tags.get(DATA_ROWS, '?')} rows"] = None
            facts["seeds"][run.tags["seed"]] = None
    return {name: ", ".join(values) for name, values in facts.items()} | {"statistics": _statistics(stats)}


def _statistics(stats: StatsConfig) -> str:
    """Name the methods."""
    unit = stats.unit.value
    if stats.method is Method.bootstrap:
        drawn = f"{stats.resamples:,} resamples, seed {stats.seed}"
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
        "interval and McNemar's mid-p, one score by Wilson; graded: Gaffke's bounds; p after Holm over all comparisons "
        f"of this report; margin {_margins(stats)}{_pool(stats)}"
    )


def _pool(stats: StatsConfig) -> str:
    """Name the order of claims, if there is a pool."""
    if stats.pool is Pool.none:
        return ""
    margin = stats.margin if stats.pool_margin is None else stats.pool_margin
    weights = ", ".join(f"{task} {weight:g}" for task, weight in stats.pool_weights.items())
    counted = {
        Pool.items: "each item counts equally",
        Pool.tasks: "each task counts equally",
        Pool.weights: f"weights {weights}",
    }[stats.pool]
    return (
        f"; pool over tasks ({counted}), margin {points(margin)} points: its claim to be within comes first, then "
        "those of its tasks by Holm; losses stand behind no gate, the pools being further members of Holm's family"
    )


def _margins(stats: StatsConfig) -> str:
    return ", ".join(
        [f"{points(stats.margin)} points", *(f"{task} {points(of)}" for task, of in stats.margins.items())]
    )
