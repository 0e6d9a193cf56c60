"""What a sweep declares before its first answer, and what the results say of it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

from quantexp.config import Config, StatsConfig
from quantexp.errors import UserError
from quantexp.fingerprint import pair_fingerprint
from quantexp.report.summary import Answer, Declaration, Registered

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from quantexp.stats import Contrast

DECISIVE = ("baseline", "margin", "margins", "confidence", "unit", "method", "target")
"""The settings of the analysis that a verdict depends on; resamples and their seed only move its last digits."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A declaration as the store has it.

    Attributes:
        text: what was declared, as YAML.
        sha256: of the text when it was declared.
        time: when, UTC, ISO 8601.
        commit: of quantexp.
        late: how many of the sweep's jobs had finished by then; a declaration after results is none.
    """

    text: str
    sha256: str
    time: str
    commit: str
    late: int

    @property
    def comparisons(self) -> int:
        """How many comparisons were declared together."""
        return max(1, int(_content(self)["comparisons"]))

    @property
    def order(self) -> dict[str, int]:
        """A place for each task, in the order in which they were asked for, and for each TASK/QUANT after the tasks."""
        family = _content(self)["family"]
        tasks = [str(each).rpartition("/")[0] for each in family]
        return {each: place for place, each in enumerate(dict.fromkeys([*tasks, *map(str, family)]))}


def declared(jobs: Sequence[Config], stats: StatsConfig) -> str:
    """What a sweep declares, as YAML: hypothesis and claims, the family of comparisons, and the rule of decision."""
    family = dict.fromkeys(f"{job.task.name}/{job.quant.name}" for job in jobs if job.quant.name != stats.baseline)
    # A task that is run in several ways, such as with several numbers of examples, is compared in each of them.
    comparisons = {
        (pair_fingerprint(replace(job, seed=0)), job.quant.name) for job in jobs if job.quant.name != stats.baseline
    }
    content = {
        "hypothesis": asdict(jobs[0].hypothesis),
        "family": list(family),
        "comparisons": len(comparisons),
        "analysis": _analysis(stats),
        "seeds": sorted({job.seed for job in jobs}),
    }
    return OmegaConf.to_yaml(OmegaConf.create(content))


def _content(registration: Registration) -> dict[str, Any]:
    """The declaration's keys.

    Raises:
        UserError: it is none any more.
    """
    from quantexp.stored import read_yaml  # only now: it loads pandas

    content = read_yaml(registration.text, "A sweep's registration.yaml")
    kinds = {"hypothesis": dict, "family": list, "comparisons": int, "analysis": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if not wrong and not _is_hypothesis(content["hypothesis"]):
        wrong = ["hypothesis"]
    if wrong:
        raise UserError(f"A sweep's registration.yaml is damaged (it has no {min(wrong)}); put it back from a copy.")
    return content


def _is_hypothesis(content: Mapping[str, Any]) -> bool:
    """Tell if this is what `declared` writes: a text, and claims with weights by task and quant."""
    claims = content.get("claims")
    return isinstance(content.get("text"), str) and isinstance(claims, dict) and all(map(_is_claim, claims.values()))


def _is_claim(claim: object) -> bool:
    if not isinstance(claim, dict) or not isinstance(claim.get("text"), str):
        return False
    tasks = claim.get("contrast")
    return isinstance(tasks, dict) and all(
        isinstance(weights, dict) and weights and all(isinstance(weight, int | float) for weight in weights.values())
        for weights in tasks.values()
    )


def check_declaration(registration: Registration) -> None:
    """Refuse a registration whose text is no declaration.

    Raises:
        UserError: it is none any more.
    """
    _content(registration)


def digest(text: str) -> str:
    """sha256 of a declaration."""
    return hashlib.sha256(text.encode()).hexdigest()


def report(
    registration: Registration,
    stats: StatsConfig,
    scores: Mapping[tuple[str, str], "pd.Series[float]"],
    compared: Sequence[str],
) -> Registered:
    """What was declared, what has changed since, and what the results say of each claim.

    Args:
        registration: the declaration.
        stats: the analysis that is made now.
        scores: by task and quant, each unique item's mean score.
        compared: the comparisons of the report, as TASK/QUANT.
    """
    content = _content(registration)
    changes = [
        f"stats.{key} was declared as {content['analysis'].get(key)} and is {value}."
        for key, value in _analysis(stats).items()
        if content["analysis"].get(key) != value
    ]
    if digest(registration.text) != registration.sha256:
        changes.insert(0, "The declaration itself has been changed: its sha256 is another one.")
    changes += [f"{each} is compared, but was not declared." for each in compared if each not in content["family"]]
    changes += [f"{each} was declared, but is not compared." for each in content["family"] if each not in compared]
    return Registered(
        declaration=Declaration(
            hypothesis=content["hypothesis"]["text"],
            sha256=registration.sha256,
            time=registration.time,
            commit=registration.commit,
            late=registration.late,
        ),
        changes=tuple(changes),
        answers=tuple(_answers(content["hypothesis"]["claims"], content["analysis"].get("baseline"), stats, scores)),
    )


def _answers(
    claims: Mapping[str, Any], baseline: str, stats: StatsConfig, scores: Mapping[tuple[str, str], "pd.Series[float]"]
) -> Iterator[Answer]:
    """Each claim is one contrast of losses; their p-values are corrected for the number of claims (Holm)."""
    from quantexp.stats import contrast, holm

    tested: dict[str, Contrast] = {}
    for claim in claims.values():
        weights: Mapping[str, Mapping[str, float]] = claim["contrast"]
        parts = [_losses(task, of_quants, baseline, scores) for task, of_quants in weights.items()]
        if parts and all(len(part) for part in parts):
            tested[claim["text"]] = contrast(
                parts,
                largest=max(sum(map(abs, of_quants.values())) for of_quants in weights.values()),
                confidence=stats.confidence,
                resamples=stats.resamples,
                seed=stats.seed,
            )
    adjusted = dict(zip(tested, holm([each.p_value for each in tested.values()]) if tested else [], strict=True))
    for claim in claims.values():
        text = claim["text"]
        if text not in tested:
            yield Answer(text, "undecided", None, None, "not every quant that it names was run on common items")
            continue
        word = "undecided"
        if adjusted[text] < 1 - stats.confidence:
            word = "supported" if tested[text].estimate > 0 else "falsified"
        yield Answer(text, word, tested[text], float(adjusted[text]), "")


def _losses(
    task: str, weights: Mapping[str, float], baseline: str, scores: Mapping[tuple[str, str], "pd.Series[float]"]
) -> "NDArray[np.float64]":
    """The weighted sum of the quants' losses on each item that all of them answered; empty if one was not run."""
    import pandas as pd

    if any((task, quant) not in scores for quant in (baseline, *weights)):
        return np.empty(0)
    table = pd.DataFrame({quant: scores[task, quant] for quant in (baseline, *weights)}).dropna().sort_index()
    losses = -table[[*weights]].sub(table[baseline], axis="index")
    return np.asarray(losses.to_numpy() @ np.array([*weights.values()], dtype=float))


def _analysis(stats: StatsConfig) -> dict[str, Any]:
    return {key: value.value if isinstance(value := getattr(stats, key), Enum) else value for key in DECISIVE}
