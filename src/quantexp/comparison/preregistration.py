"""Preregistration: what a sweep declares before its first answer, and what the results say of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

from quantexp.comparison.summary import Answer, Registered
from quantexp.config import Config, Pool, StatsConfig
from quantexp.config.condition import is_baseline, name_condition, parse_baseline, read_references
from quantexp.config.fingerprint import pair_fingerprint
from quantexp.tracking.registration import Registration, digest, read_content

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from quantexp.stats import Contrast

Scores = Mapping[tuple[str, str], "pd.Series[float]"]
"""Mean score of each unique item, by task and quant."""

DECISIVE = ("baseline", "margin", "margins", "confidence", "unit", "method", "target")
"""The settings of the analysis that a verdict depends on; resamples and their seed only move its last digits."""

OF_POOL = ("pool", "pool_weights", "pool_margin")
"""Those of the pool, which are declared if there is one."""


def write_declaration(jobs: Sequence[Config], stats: StatsConfig) -> str:
    """Write a sweep's declaration as YAML: hypothesis and claims, the family of comparisons, the rule of decision."""
    family = _family(jobs)
    # A task that is run in several ways, such as with several numbers of examples, is compared in each of them.
    comparisons = {
        (pair_fingerprint(replace(job, seed=0)), name_condition(job)) for job in jobs if not is_baseline(job)
    }
    content = {
        "hypothesis": asdict(jobs[0].hypothesis),
        "family": list(family),
        "comparisons": len(comparisons),
        "analysis": _analysis(stats, () if stats.pool is Pool.none else OF_POOL),
        "seeds": sorted({job.seed for job in jobs}),
    }
    if references := read_references():
        content["references"] = [
            {"model": model, "task": task, "levels": dict(levels)} for (model, task), levels in references.items()
        ]
    models = dict.fromkeys(job.model.name for job in jobs)
    if len(models) > 1:
        content["families"] = {model: list(_family([j for j in jobs if j.model.name == model])) for model in models}
    return OmegaConf.to_yaml(OmegaConf.create(content))


def _family(jobs: Sequence[Config]) -> dict[str, None]:
    return dict.fromkeys(f"{job.task.name}/{name_condition(job)}" for job in jobs if not is_baseline(job))


def report(
    registration: Registration,
    stats: StatsConfig,
    scores: Mapping[str, Scores],
    compared: Mapping[str, Sequence[str]],
    earlier: int = 0,
    answers: int = 0,
) -> Registered:
    """Say what was declared, what has changed since, and what the results say of each claim.

    Args:
        registration: the declaration.
        stats: the analysis that is made now.
        scores: each model's, by task and quant: each unique item's mean score.
        compared: each model's comparisons in the report, as TASK/QUANT.
        earlier: how many of the answers existed before the declaration.
        answers: how many there are.
    """
    content = read_content(registration)
    declared = _analysis(StatsConfig(), OF_POOL, ()) | content["analysis"]
    changes = [
        f"stats.{key} was declared as {declared.get(key)} and is {value}."
        for key, value in _analysis(stats, OF_POOL).items()
        if declared.get(key) != value
    ]
    if digest(registration.text) != registration.sha256:
        changes.insert(0, "The declaration itself has been changed: its sha256 is another one.")
    families: Mapping[str, Sequence[str]] = content.get("families") or {
        model: content["family"] for model in compared or [""]
    }
    several = len({*families, *compared}) > 1
    for model in dict.fromkeys([*families, *compared]):
        of = f" of {model}" if several else ""
        family, found = families.get(model, ()), compared.get(model, ())
        changes += [f"{each}{of} is compared, but was not declared." for each in found if each not in family]
        changes += [f"{each}{of} was declared, but is not compared." for each in family if each not in found]
    return Registered(
        declaration=registration,
        hypothesis=content["hypothesis"]["text"],
        changes=tuple(changes),
        answers=tuple(
            _answers(
                content["hypothesis"]["claims"], parse_baseline(content["analysis"]["baseline"]).label, stats, scores
            )
        ),
        earlier=earlier,
        total=answers,
    )


def _answers(
    claims: Mapping[str, Any], baseline: str, stats: StatsConfig, scores: Mapping[str, Scores]
) -> Iterator[Answer]:
    """Answer each claim, of each model: one contrast of losses; p-values are corrected for their number (Holm)."""
    from quantexp.stats import contrast, holm

    asked = {
        (f"{model}: " if len(scores) > 1 else "") + claim["text"]: (claim["contrast"], of_model)
        for model, of_model in (scores or {"": {}}).items()
        for claim in claims.values()
    }
    tested: dict[str, Contrast] = {}
    for text, (weights, of_model) in asked.items():
        parts = [_losses(task, of_quants, baseline, of_model) for task, of_quants in weights.items()]
        if parts and all(len(part) for part in parts):
            tested[text] = contrast(
                parts,
                largest=max(sum(map(abs, of_quants.values())) for of_quants in weights.values()),
                **stats.resampling,
            )
    adjusted = dict(zip(tested, holm([each.p_value for each in tested.values()]) if tested else [], strict=True))
    for text in asked:
        if text not in tested:
            yield Answer(text, "undecided", None, None, "not every quant that it names was run on common items")
            continue
        word = "undecided"
        if adjusted[text] < 1 - stats.confidence:
            word = "supported" if tested[text].estimate > 0 else "falsified"
        yield Answer(text, word, tested[text], float(adjusted[text]), "")


def _losses(task: str, weights: Mapping[str, float], baseline: str, scores: Scores) -> "NDArray[np.float64]":
    """Sum the weighted losses of the quants on each item that all of them answered; empty if one was not run."""
    import pandas as pd

    if any((task, quant) not in scores for quant in (baseline, *weights)):
        return np.empty(0)
    table = pd.DataFrame({quant: scores[task, quant] for quant in (baseline, *weights)}).dropna().sort_index()
    losses = -table[[*weights]].sub(table[baseline], axis="index")
    return np.asarray(losses.to_numpy() @ np.array([*weights.values()], dtype=float))


def _analysis(stats: StatsConfig, of_pool: Sequence[str], keys: Sequence[str] = DECISIVE) -> dict[str, Any]:
    values = {key: getattr(stats, key) for key in (*keys, *of_pool)}
    return {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}
