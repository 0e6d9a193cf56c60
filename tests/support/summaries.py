"""Summaries and tables made up for the tests of the report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from quantexp.comparison.flips import flip_rows
from quantexp.comparison.summary import Comparison, Condition, Summary
from quantexp.stats import Method, compare, decide, estimate

LADDER = (("Q8_0", 8.5), ("Q5_K_M", 5.69), ("Q4_K_M", 4.85), ("Q3_K_M", 3.91))


def make_summary(
    models: Sequence[str] = ("Qwen2.5-7B-Instruct",),
    tasks: Sequence[str] = ("gsm8k", "triviaqa", "extraction"),
    ladder: Sequence[tuple[str, float]] = LADDER,
    items: int = 60,
    method: Method = Method.default,
) -> Summary:
    """Scores in thirds that fall with the bits; the first quant is the baseline."""
    rng = np.random.default_rng(0)
    conditions, comparisons = [], []
    for model in models:
        for task in tasks:
            base = rng.integers(0, 4, items) / 3
            for quant, bits in ladder:
                scores = np.where(rng.random(items) < 0.5 / bits, 0.0, base)
                if quant == ladder[0][0]:
                    scores = base
                else:
                    result = compare(base, scores, resamples=200, method=method)
                    comparisons.append(Comparison(model, task, ladder[0][0], quant, result))
                score = estimate(scores, resamples=200, method=method)
                speed = None if quant == ladder[0][0] else 123.456
                conditions.append(
                    Condition(
                        *(model, quant, task, bits, int(1e9 * bits), score, items, 3),
                        *("exact@2", speed, (f"{quant}-1", f"{quant}-2")),
                    )
                )
    if comparisons and method is Method.default:
        decisions = decide([each.difference for each in comparisons], 0.02)
        comparisons = [replace(each, decision=made) for each, made in zip(comparisons, decisions, strict=True)]
    return Summary(
        title="cliff | demo",
        baseline=ladder[0][0],
        conditions=tuple(conditions),
        comparisons=tuple(comparisons),
        notes=("data: bundled",),
        refusals=("Q2_K could not be paired: the prompts differ.",),
        failures=("Q6_K on gsm8k ran out of memory.",),
        protocol={"dataset gsm8k": "sha256:00ff"},
    )


Read = tuple[float | None, str | None, str | None]
"""Score, extracted answer, reading error."""

RIGHT: Read = (1.0, "18", None)
WRONG: Read = (0.0, "20", None)


def answers(*rows: Read, **columns: Any) -> pd.DataFrame:
    """A per-item table with a seed: one item after the other, unless columns say otherwise."""
    n = len(rows)
    table = {
        "seed": [0] * n,
        "item_id": [f"i{number}" for number in range(n)],
        "cluster": [f"c{number}" for number in range(n)],
        "sample": [0] * n,
        "difficulty": [None] * n,
        "prompt": ["How many?"] * n,
        "output": [f"It is {extracted}" for _, extracted, _ in rows],
        "reference": ["18"] * n,
        "extracted": [extracted for _, extracted, _ in rows],
        "score": [score for score, _, _ in rows],
        "grading_error": [error for _, _, error in rows],
        "finish_reason": ["stop"] * n,
    }
    return pd.DataFrame({**table, **{name: list(values) for name, values in columns.items()}})


def changed(*outputs: tuple[str, str], **columns: Any) -> pd.DataFrame:
    """Rows of lost answers with these outputs of the baseline and the quant, and what columns say."""
    n = len(outputs)
    rows = flip_rows(answers(*[RIGHT] * n), answers(*[WRONG] * n), task="gsm8k", name="Q4_K_M").astype(object)
    columns |= {"baseline_output": [before for before, _ in outputs], "quant_output": [after for _, after in outputs]}
    for name, values in columns.items():
        # As objects: pandas' own strings cannot hold half a character.
        rows[name] = pd.Series(values if isinstance(values, list) else [values] * n, dtype=object)
    return rows
