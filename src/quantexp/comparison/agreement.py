"""Agreement of results with published ones: to the byte where it should, and statistically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from quantexp.comparison.publication import Job
from quantexp.comparison.wording import difference_text, points
from quantexp.config.identity import differences, share_identity
from quantexp.stats import PairedComparison, compare
from quantexp.stats.verdict import holm

_ALPHA = 0.05
"""Level at which a difference is shown."""

_PLACES = ("library", "engine", "gpu_layers")
"""Settings in a run's identity that say what computed; other results of them are no other question."""


class Outcome(Enum):
    """Outcome of a reproduction."""

    agrees = "agrees"
    differs = "DIFFERS"
    unknown = "cannot tell"


@dataclass(frozen=True, slots=True)
class Pair:
    """A published run, and its repetition.

    Attributes:
        published: the run.
        again: the same, run here; None if it failed.
        failure: why.
    """

    published: Job
    again: Job | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a reproduction says of one condition on one task."""

    name: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class _Counts:
    """Answers that both runs have.

    Attributes:
        answers: number of them.
        same: those with the same completion, to the byte.
        regraded: those of them with another score.
        before: published score of each that both scored.
        after: its new one.
        units: what it counts with.
    """

    answers: int
    same: int
    regraded: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    units: tuple[str, ...]


def judge_agreement(pairs: Sequence[Pair], margins: Mapping[str, float], *, confidence: float) -> list[Agreement]:
    """Hold repetitions against what was published, condition by condition.

    Bytes are to agree where the file, the build of llama.cpp, the engine and the kind of machine do. Otherwise the
    scores of the same items are compared in pairs: they agree if the interval of the difference lies within the margin
    on both sides, and differ if a difference is shown after Holm's correction over all conditions.

    Args:
        pairs: all runs.
        margins: of each task, as a fraction of the score.
        confidence: of the intervals.
    """
    groups: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.published.model, pair.published.task, pair.published.condition), []).append(pair)
    several = len({model for model, *_ in groups}) > 1
    names = [f"{f'{model}, ' if several else ''}{condition} on {task}" for model, task, condition in groups]
    counts = [_count(group) for group in groups.values()]
    found = [
        compare(each.before, each.after, clusters=each.units, confidence=confidence) if each and each.before else None
        for each in counts
    ]
    adjusted = iter(holm([each.p_value for each in found if each]) if any(found) else ())
    p_values = [float(next(adjusted)) if each else None for each in found]
    return [
        Agreement(name, *_judge(group, each, difference, p_value, margins[task]))
        for name, (_, task, _), group, each, difference, p_value in zip(
            names, groups, groups.values(), counts, found, p_values, strict=True
        )
    ]


def _judge(
    group: Sequence[Pair],
    counts: _Counts | None,
    difference: PairedComparison | None,
    p_value: float | None,
    margin: float,
) -> tuple[Outcome, str]:
    for pair in group:
        if pair.again is None:
            return Outcome.unknown, f"its run failed: {pair.failure}"
        if changed := _find_other_question(pair.published, pair.again):
            return Outcome.unknown, f"something else was asked: {changed}"
    if counts is None or not counts.answers:
        return Outcome.unknown, "no answer is to an item that was published"
    if counts.same == counts.answers and not counts.regraded:
        return Outcome.agrees, f"all {counts.answers} completions are the published ones, to the byte"
    same = f"{counts.same} of {counts.answers} completions are the published ones, to the byte"
    if counts.regraded:
        return Outcome.differs, f"{same}, and {counts.regraded} of these are graded otherwise"
    hindrances = [reason for pair in group if pair.again for reason in list_hindrances(pair.published, pair.again)]
    if not hindrances:
        return Outcome.differs, f"{same}, and all should be: file, build, engine and kind of machine are the same"
    said = f"{same}, and more is not to be expected ({'; '.join(dict.fromkeys(hindrances))})"
    if difference is None or p_value is None:
        return Outcome.unknown, f"{said}; no item was scored in both runs"
    said += f"; published - here: {' '.join(difference_text(difference))} points, n={difference.n}"
    if not difference.zero_width and -margin < difference.low and difference.high < margin:
        return Outcome.agrees, f"{said}, within {points(margin)} points"
    if p_value < _ALPHA:
        return Outcome.differs, f"{said}, p={p_value:.3f} (Holm)"
    return Outcome.unknown, f"{said}: too few items to show that it is within {points(margin)} points"


def list_hindrances(published: Job, again: Job) -> list[str]:
    """Return what keeps two runs of the same job from the same bytes, in a few words each; nothing if nothing does."""
    if "openai" in (published.settings.get("engine", {}).get("name"), again.settings.get("engine", {}).get("name")):
        return ["a server answered"]
    facts = {
        "another model file": (published.file.sha256, again.file.sha256),
        "another version of llama.cpp": (published.software.library, again.software.library),
        "another build of llama.cpp": (published.software.build, again.software.build),
        "another revision of quantexp's engine": (published.software.revision, again.software.revision),
        "another processor": (published.machine.processor, again.machine.processor),
        "another kind of processor": (published.machine.extensions, again.machine.extensions),
        "other kernels": (published.machine.features, again.machine.features),
    }
    found = [what for what, (one, other) in facts.items() if one != other or one is None]
    layers = [str(each.identity.get("settings", {}).get("gpu_layers", "0")) for each in (published, again)]
    if layers != ["0", "0"]:
        found.append("a GPU computed")
    return found


def _find_other_question(published: Job, again: Job) -> str:
    """Return in words what makes the two runs answers to different questions; empty if nothing does."""
    known = _without_places(published.identity), _without_places(again.identity)
    if changed := differences(known[1], known[0]):
        return changed
    asked = dict(zip(_keys(published), published.answers.prompt, strict=True))
    here = dict(zip(_keys(again), again.answers.prompt, strict=True))
    if other := [key for key in asked if key in here and here[key] != asked[key]]:
        return f"the prompt of {len(other)} items is another, the first is {other[0][0]}"
    return ""


def _without_places(identity: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    shared = share_identity(identity, ())
    return {
        aspect: {key: value for key, value in entries.items() if aspect != "settings" or key not in _PLACES}
        for aspect, entries in shared.items()
    }


def _keys(job: Job) -> list[tuple[str, int]]:
    return list(zip(job.answers.item, job.answers.sample, strict=True))


def _count(group: Sequence[Pair]) -> _Counts | None:
    answers = same = regraded = 0
    scores: list[tuple[float, float, str]] = []
    for pair in group:
        if pair.again is None:
            return None
        ours, theirs = pair.published.answers, pair.again.answers
        place = {key: at for at, key in enumerate(_keys(pair.again))}
        for at, key in enumerate(_keys(pair.published)):
            if (there := place.get(key)) is None:
                continue
            answers += 1
            before, after = ours.score[at], theirs.score[there]
            is_same = ours.completion[at] == theirs.completion[there]
            same += is_same
            regraded += is_same and not _is_equal(before, after)
            if before is not None and after is not None:
                scores.append((before, after, ours.cluster[at]))
    before_all, after_all, units = zip(*scores, strict=True) if scores else ((), (), ())
    return _Counts(answers, same, regraded, before_all, after_all, units)


def _is_equal(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else bool(np.isclose(one, other, rtol=0, atol=1e-9))
