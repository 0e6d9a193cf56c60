"""All tasks together, and several models together: tables, sentences and files."""

import math
from collections.abc import Iterator

from quantexp.comparison.summary import POOL, AcrossModels, Pooled, Summary
from quantexp.comparison.wording import (
    difference_text,
    family_text,
    format_p,
    format_points,
    format_range,
    given_points,
    interval_names,
    is_corrected,
    p_text,
    reading,
)
from quantexp.report.columns import Column, DataTable, Grid, list_attributes, omit_nan
from quantexp.stats import FEW_PLACES, Heterogeneity
from quantexp.util.metric_names import fold_name

POOLS, MODELS = "pool", "models"
"""Names of the charts' files."""

WEIGHTINGS = {
    "items": "each item counts equally",
    "tasks": "each task counts equally",
    "weights": "tasks have weights",
}
"""How tasks count in a pool, in words."""

MODELS_NOTE = (
    "Random effects: what a condition costs differs from model to model, and those here stand for others of their "
    "kind. Average: its interval, by Hartung, Knapp, Sidik and Jonkman, allows for few models, and for errors that "
    "models share because they answered the same items. A further model: where its loss is expected to lie. τ: the "
    "standard deviation between models. I²: the share of their variance that chance does not explain."
)

_VERY_FEW = 5
"""Models below which an average describes these models rather than others."""


def pools_table(summary: Summary) -> DataTable[Pooled]:
    """Return conditions against the baseline over several tasks; fractions in files."""
    level = interval_names(summary)
    columns: list[Column[Pooled]] = [
        Column("model", lambda row: row.model, "model", side="l"),
        Column("baseline", lambda row: row.baseline),
        Column("quant", lambda row: row.quant, summary.noun, side="l"),
        Column("reading", reading, "verdict", side="l"),
        Column(
            "difference",
            lambda row: row.difference.difference,
            f"baseline - {summary.noun} [{level}]",
            lambda row: difference_text(row.difference),
        ),
        *list_attributes(lambda row: row.difference, "low", "high", "upper"),
        Column(
            "bootstrap",
            None,
            f"bootstrap [{level}]",
            lambda row: _interval(row.pooled.bootstrap_low, row.pooled.bootstrap_high),
        ),
        *list_attributes(lambda row: row.pooled, "bootstrap_low", "bootstrap_high"),
        Column("p_value", lambda row: row.difference.p_value, "p, Holm" if is_corrected(summary) else "p", p_text),
        Column("p_exact", lambda row: omit_nan(row.pooled.p_exact), "exact p", lambda row: _p(row.pooled.p_exact)),
        *list_attributes(lambda row: row.decision, "p_adjusted", "margin"),
        Column("verdict", lambda row: row.decision and row.decision.verdict.value),
        Column("weighting", lambda row: row.weighting),
        Column(
            "weights",
            lambda row: " ".join(f"{task}={weight:.6g}" for task, weight in _weights(row)),
        ),
        *list_attributes(lambda row: row.difference, "n", "lost", "gained"),
        Column("i2", lambda row: _of(row).i2, f"I² of tasks [{level}]", _tasks_apart),
        *list_attributes(_of, "i2_low", "i2_high", "q"),
        Column("p_heterogeneity", lambda row: _of(row).p_value),
        Column("tau", lambda row: _of(row).tau),
        Column("kind", lambda row: row.difference.kind.value),
        Column("interval", lambda row: row.difference.interval_method),
        Column("test", lambda row: row.difference.test_method),
        *list_attributes(lambda row: row.difference, "baseline_mean", "baseline_low", "quant_mean"),
        *list_attributes(lambda row: row.difference, "confidence", "resamples"),
        Column("bootstrap_seed", lambda row: row.difference.seed),
    ]
    return DataTable(columns, summary.pools)


def pools_grid(summary: Summary) -> Grid:
    """Tabulate the pools; no rows if there are none."""
    exact = ("p_exact",) if any(omit_nan(each.pooled.p_exact) is not None for each in summary.pools) else ()
    model = ("model",) if len(summary.models()) > 1 else ()
    shown = (*model, "quant", "reading", "difference", "p_value", *exact, "bootstrap", "i2")
    return pools_table(summary).show(*shown)


def pool_outcomes(summary: Summary) -> list[str]:
    """Conclude on each model's pool in a sentence, and name the pools that could not be made."""
    found = []
    for model in summary.models():
        pools = [pool for pool in summary.pools if pool.model == model]
        if not pools:
            continue
        first = pools[0]
        of = f"{model}, " if len(summary.models()) > 1 else ""
        margin = "" if first.decision is None else f", margin {given_points(first.decision.margin)} points"
        told = "; ".join(f"{pool.quant} {reading(pool)}" for pool in pools)
        found.append(f"{of}{len(first.tasks)} tasks pooled ({WEIGHTINGS[first.weighting]}{margin}): {told}.")
    return found


def pool_notes(summary: Summary) -> list[str]:
    """Explain the table of pools, and the order of claims."""
    shares = dict.fromkeys(
        ", ".join(f"{task} {weight:.1%}" for task, weight in _weights(pool)) for pool in summary.pools
    )
    notes = [
        f"In points. The pool is the weighted mean of the tasks' differences; the weights: {' or '.join(shares)}. "
        "Bootstrap: items, with all their answers, drawn again within each task; it allows for no loss that was not "
        "seen, so that verdicts rest on the interval beside the difference.",
    ]
    if any(pool.pooled.p_exact == pool.pooled.p_exact for pool in summary.pools):
        notes.append(
            "Exact p: McNemar's exact test of no difference on any task, each task's changed items being a "
            "stratum; not corrected."
        )
    notes.append(
        "I²: the share of the variance between tasks that chance does not explain, and p of tasks that are all alike. "
        "Where tasks differ, the pool hides that: read the tasks."
    )
    if any(pool.decision for pool in summary.pools):
        notes.append(
            'Order of claims: "within margin" of the pool comes first. Its tasks are called within their margins only '
            "once the pool is, and after Holm's correction over them, so that all such claims of one "
            f"{summary.noun} together are wrong with at most the level. Losses stand behind no gate: p is corrected "
            f"for {family_text(summary)}."
        )
    return notes


def models_table(summary: Summary) -> DataTable[AcrossModels]:
    """Return what conditions cost over several models; in files fractions, and several models are parted by `; `."""
    level = interval_names(summary)
    columns: list[Column[AcrossModels]] = [
        Column("task", lambda row: row.task, "task", _name_task, "l"),
        Column("quant", lambda row: row.quant, summary.noun, side="l"),
        Column("number_of_models", lambda row: len(row.models), "models"),
        Column("number_of_families", lambda row: len({*row.families}), "families"),
        Column("loss", lambda row: row.average.mean, f"average loss, points [{level}]", _average),
        *list_attributes(lambda row: row.average, "low", "high"),
        Column(
            "further",
            None,
            f"a further model [{level}]",
            lambda row: _interval(row.average.predicted_low, row.average.predicted_high),
        ),
        Column("predicted_low", lambda row: omit_nan(row.average.predicted_low)),
        Column("predicted_high", lambda row: omit_nan(row.average.predicted_high)),
        Column("tau", lambda row: row.average.heterogeneity.tau, "τ, points", _tau),
        *list_attributes(lambda row: row.average.heterogeneity, "tau_low", "tau_high"),
        Column("i2", lambda row: row.average.heterogeneity.i2, "I²", lambda row: _share(row.average.heterogeneity)),
        *list_attributes(lambda row: row.average.heterogeneity, "i2_low", "i2_high", "q"),
        Column("p_heterogeneity", lambda row: row.average.heterogeneity.p_value),
        Column("shared_variance", lambda row: row.average.shared),
        Column("models", lambda row: "; ".join(row.models)),
        Column("families", lambda row: "; ".join(row.families)),
        Column("losses", lambda row: "; ".join(f"{each:.9g}" for each in row.losses)),
        Column("errors", lambda row: "; ".join(f"{each:.9g}" for each in row.errors)),
        Column("model_weights", lambda row: "; ".join(f"{each:.9g}" for each in row.average.weights)),
        Column("confidence", lambda row: row.average.confidence),
    ]
    return DataTable(columns, summary.across)


def models_grid(summary: Summary) -> Grid:
    """Tabulate what conditions cost over several models; no rows of one model."""
    shown = ("task", "quant", "number_of_models", "number_of_families", "loss", "further", "tau", "i2")
    return models_table(summary).show(*shown)


def model_outcomes(summary: Summary, *, is_whole: bool = False) -> list[str]:
    """Say what conditions cost over several models, and how few those are.

    Args:
        summary: The comparison.
        is_whole: Whether to say it of each task too, and not only of the pool or of the one task that there is.
    """
    rows = [row for row in summary.across if row.task == POOL]
    if is_whole or not rows:
        rows = [*summary.across]
    if not is_whole and len({row.task for row in rows}) > 1:
        return []
    told = [_say_average(row) for row in rows]
    return [*told, *dict.fromkeys(filter(None, map(say_small, rows)))]


def _say_average(row: AcrossModels) -> str:
    loss, interval = _average(row)
    return f"{over_models(row)}, {row.quant} loses {loss} {interval} points on {_name_task(row)}."


def over_models(row: AcrossModels) -> str:
    """Return over how many models an average is."""
    families = len({*row.families})
    return f"Over {len(row.models)} models of {families} {'family' if families == 1 else 'families'}"


def say_small(row: AcrossModels) -> str:
    """Say what a small number of models, or of families, keeps an average from showing; empty if it is none."""
    number, families = len(row.models), len({*row.families})
    parts = []
    if number < _VERY_FEW:
        parts.append(f"{number} models are very few: the average is of these, and hardly tells what others lose")
    elif number < FEW_PLACES:
        parts.append(f"{number} models are few: how far others lie from the average is hardly known")
    if families == 1:
        parts.append("all are of one family, which says nothing of others")
    elif families < number:
        parts.append("models of one family are alike, so that they tell less than as many of different ones")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def list_pool_figures(summary: Summary) -> Iterator[tuple[str, float]]:
    """Yield what MLflow draws of pools and of models together, by name."""
    for pool in summary.pools:
        section = fold_name(f"{pool.model} pool" if len(summary.models()) > 1 else "pool")
        against = f"loss_against_{fold_name(summary.baseline)}"
        quant = fold_name(pool.quant)
        yield f"{section}/{against} {quant}", pool.difference.difference
        yield f"{section}/{against}_upper {quant}", pool.difference.upper
    for row in summary.across:
        section, quant = fold_name(f"over models {row.task}"), fold_name(row.quant)
        yield f"{section}/loss {quant}", row.average.mean
        yield f"{section}/loss_low {quant}", row.average.low
        yield f"{section}/loss_high {quant}", row.average.high


def _name_task(row: AcrossModels) -> str:
    return "the pool of tasks" if row.task == POOL else row.task


def _weights(row: Pooled) -> list[tuple[str, float]]:
    return list(zip(row.tasks, row.pooled.weights, strict=True))


def _of(row: Pooled) -> Heterogeneity:
    found = row.pooled.heterogeneity
    assert found is not None  # of two tasks at least
    return found


def _share(found: Heterogeneity) -> str:
    return f"{100 * found.i2:.0f}% [{100 * found.i2_low:.0f}, {100 * found.i2_high:.0f}]"


def _tasks_apart(row: Pooled) -> str:
    return f"{_share(_of(row))}, p {_p(_of(row).p_value)}"


def _average(row: AcrossModels) -> tuple[str, str]:
    found = row.average
    return format_points(found.mean), _interval(found.low, found.high)


def _tau(row: AcrossModels) -> str:
    return f"{100 * row.average.heterogeneity.tau:.1f}"


def _interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) else format_range(low, high)


def _p(p_value: float) -> str:
    return "-" if math.isnan(p_value) else format_p(p_value)
