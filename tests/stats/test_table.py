"""Comparisons from a table of answers equal those from arrays, whatever the order and the types of the columns."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantexp.stats import Kind, Method, TableComparison, compare, compare_table

BASELINE = [("Q8", task, f"item{item}", item / 6) for task in ("gsm8k", "extraction") for item in range(7)]
cells = st.lists(
    st.tuples(
        st.sampled_from(["Q8", "Q5", "Q4", "Q3"]),
        st.sampled_from(["gsm8k", "extraction"]),
        st.integers(0, 6).map(lambda i: f"item{i}"),
        st.integers(0, 3).map(lambda k: k / 3),
    ),
    min_size=1,
    max_size=80,
)
# Mostly with a baseline for every item, else few tables could be compared at all.
rows = st.tuples(cells, st.sampled_from([[], BASELINE, BASELINE, BASELINE])).map(
    lambda parts: pd.DataFrame(parts[0] + parts[1], columns=["quant", "task", "item", "score"])
)


def by_hand(frame: pd.DataFrame, **options: Any) -> tuple[dict[tuple[str, str], tuple[Any, float]], bool]:
    """Each comparison from the means of the items in common, and whether some pair has no item in common."""
    results: dict[tuple[str, str], tuple[Any, float]] = {}
    disjoint = False
    for (task, quant), part in frame.groupby(["task", "quant"]):
        if quant == "Q8":
            continue
        base = frame[(frame.task == task) & (frame.quant == "Q8")]
        before, after = (side.groupby("item")["score"].mean() for side in (base, part))
        both = before.index.intersection(after.index).sort_values()
        if both.empty:
            disjoint = True
            continue
        counts = [side[side["item"].isin(both)]["item"].value_counts().sort_index() for side in (base, part)]
        effect = math.nan
        if counts[0].equals(counts[1]):
            paired = [side[side["item"].isin(both)].sort_values("item", kind="stable") for side in (base, part)]
            answers = compare(
                *(side["score"].to_numpy() for side in paired), clusters=paired[0]["item"].to_numpy(), **options
            )
            effect = answers.design_effect
        results[str(task), str(quant)] = compare(before[both].to_numpy(), after[both].to_numpy(), **options), effect
    return results, disjoint


@settings(max_examples=50)
@given(rows, st.booleans(), st.sampled_from(list(Method)))
def test_a_table_is_many_comparisons(frame: pd.DataFrame, categorical: bool, method: Method) -> None:
    expected, disjoint = by_hand(frame, resamples=50, method=method)
    if categorical:  # with the categories in the order in which they appear, as files have them
        for name in ("quant", "task", "item"):
            frame[name] = pd.Categorical(frame[name], categories=[*frame[name].unique(), "unused"])
    if disjoint or "Q8" not in set(frame["quant"]):
        with pytest.raises(ValueError, match=r"(in common|no answer of the baseline Q8)\.$"):
            compare_table(frame, baseline="Q8")
        return
    found = compare_table(frame, baseline="Q8", resamples=50, method=method)
    assert [(each.task, each.quant) for each in found] == sorted(expected)
    for each in found:
        want, effect = expected[each.task, each.quant]
        got = each.comparison
        for name in ("difference", "low", "high", "upper", "p_value", "baseline_mean", "deviation"):
            assert getattr(got, name) == pytest.approx(getattr(want, name), abs=1e-9, nan_ok=True), name
        assert (got.n, got.lost, got.gained, got.kind) == (want.n, want.lost, want.gained, want.kind)
        assert got.design_effect == pytest.approx(effect, nan_ok=True)


def table(repeats: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    parts = []
    for quant, right in (("Q8_0", 0.7), ("Q4_K_M", 0.6)):
        for task in ("gsm8k", "triviaqa"):
            items = np.arange(300)
            score = (np.random.default_rng(items).random(300) + rng.normal(0, 0.1, 300) < right).astype(float)
            parts.append(pd.DataFrame({"quant": quant, "task": task, "item": items, "score": score}))
    return pd.concat(parts * repeats, ignore_index=True)


def test_the_order_of_the_rows_does_not_matter() -> None:
    frame = table()
    shuffled = frame.sample(frac=1, random_state=1)
    assert compare_table(shuffled, baseline="Q8_0") == compare_table(frame, baseline="Q8_0")


def test_repeats_count_once() -> None:
    once, thrice = compare_table(table(), baseline="Q8_0"), compare_table(table(3), baseline="Q8_0")
    for one, three in zip(once, thrice, strict=True):
        assert (three.comparison.low, three.comparison.high) == (one.comparison.low, one.comparison.high)
        assert three.comparison.p_value == one.comparison.p_value
        assert (one.comparison.answers, three.comparison.answers) == (300, 900)
        assert one.comparison.design_effect == 1.0
        assert three.comparison.design_effect == pytest.approx(3.0)
        assert three.comparison.kind is Kind.binary


def repeated(times: int) -> pd.DataFrame:
    """Answers that differ between the repeats, the first half of the items asked `times` more on the quant's side."""
    rng = np.random.default_rng(8)
    items = np.tile(np.arange(100), 3)
    base = pd.DataFrame({"quant": "Q8_0", "task": "t", "item": items, "score": rng.integers(0, 2, 300).astype(float)})
    quant = base.assign(quant="Q4_K_M", score=np.where(rng.random(300) < 0.3, 1 - base["score"], base["score"]))
    return pd.concat([base, quant, *[quant[:50]] * times], ignore_index=True)


def test_repeats_are_paired_in_the_order_of_the_table() -> None:
    frame = repeated(0)
    sides = [frame[frame["quant"] == quant] for quant in ("Q8_0", "Q4_K_M")]
    expected = compare(*(side["score"].to_numpy() for side in sides), clusters=sides[0]["item"].to_numpy())
    [found] = compare_table(frame, baseline="Q8_0")
    assert found.comparison.design_effect == pytest.approx(expected.design_effect)
    assert found.comparison.answers == 300


def test_repeats_that_cannot_be_paired_have_no_design_effect() -> None:
    for frame in (repeated(1), repeated(1).replace({"Q8_0": "Q4_K_M", "Q4_K_M": "Q8_0"})):
        [found] = compare_table(frame, baseline="Q8_0")
        assert math.isnan(found.comparison.design_effect)
        assert (found.comparison.n, found.comparison.answers) == (100, 300)


def test_a_fixed_set_is_declared_by_task() -> None:
    plain, fixed = (
        compare_table(table(), baseline="Q8_0"),
        compare_table(table(), baseline="Q8_0", population={"gsm8k": 1319}),
    )
    assert fixed[0].comparison.high - fixed[0].comparison.low < plain[0].comparison.high - plain[0].comparison.low
    assert fixed[0].comparison.population == 1319
    assert fixed[1] == plain[1]


def test_a_result_says_what_it_is() -> None:
    [gsm8k, triviaqa] = compare_table(table(), baseline="Q8_0")
    assert isinstance(gsm8k, TableComparison)
    assert [(each.task, each.quant) for each in (gsm8k, triviaqa)] == [("gsm8k", "Q4_K_M"), ("triviaqa", "Q4_K_M")]


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (table().drop(columns="item"), {}, "the table has no column item"),
        (table(), {"baseline": "F16"}, "the table holds no answer of the baseline F16"),
        (table().assign(score=math.nan), {}, "score must be finite, but gsm8k has an answer without one"),
        (table().assign(item=pd.Series([None, *["a"] * 1199])), {}, "the column item has gaps"),
        (
            table().query("quant == 'Q4_K_M' or task == 'gsm8k'"),
            {},
            "Q4_K_M and Q8_0 have no item of triviaqa in common",
        ),
        (table(), {"population": {"gsm8k": 10}}, "population=10 must be at least"),
        (table().assign(score=7.5), {}, "scores must lie between 0 and 1"),
        (table(), {"confidence": 95}, "confidence must be at least 0.5"),
    ],
)
def test_mistakes_get_one_sentence(frame: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        compare_table(frame, **({"baseline": "Q8_0"} | options))
    assert str(caught.value).rstrip().endswith(".")
