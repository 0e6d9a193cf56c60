"""What a summary accepts, and the words a difference gets."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.comparison.summary import Comparison, Condition, Summary
from quantexp.comparison.wording import difference_text, format_points, p_text, reading
from quantexp.report.conclusions import sentences, verdict, write_outcome
from quantexp.stats import Kind, Method, PairedComparison, Verdict, compare, decide, estimate


def difference(low: float, high: float, p: float = 0.5, changed: int = 9) -> PairedComparison:
    return PairedComparison(
        difference=(low + high) / 2,
        low=low,
        high=high,
        upper=high,
        p_value=p,
        n=200,
        answers=200,
        design_effect=1.0,
        kind=Kind.graded,
        lost=changed,
        gained=0,
        baseline_mean=0.5,
        baseline_low=0.44,
        quant_mean=0.5 - (low + high) / 2,
        deviation=0.2,
        interval_method="percentile bootstrap",
        test_method="sign-flip",
        resamples=10_000,
        seed=42,
        confidence=0.95,
        population=None,
    )


def pair(found: PairedComparison, margin: float | None = None) -> Comparison:
    """A comparison, decided alone at a margin or not at all."""
    decision = None if margin is None else decide([found], margin)[0]
    return Comparison("m", "gsm8k", "Q8_0", "Q4", found, decision)


def right_or_wrong(b: int, c: int, n: int) -> PairedComparison:
    """b items lost, c gained, of n."""
    baseline = np.array([1.0] * b + [0.0] * c + [1.0] * (n - b - c))
    quant = np.array([0.0] * b + [1.0] * c + [1.0] * (n - b - c))
    return compare(baseline, quant)


def condition(model: str, quant: str, task: str = "gsm8k", bits: float = 8.5) -> Condition:
    score = estimate([0.0, 1.0, 1.0], resamples=50)
    return Condition(model, quant, task, bits, 10, score, 3, 1, "exact@1", None, ("r",))


def summary(conditions: list[Condition], comparisons: list[Comparison]) -> Summary:
    return Summary("t", "Q8_0", tuple(conditions), tuple(comparisons), (), (), (), {})


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.012, 0.054, "worse by 1.2 to 5.4 points"),
        (-0.054, -0.012, "better by 1.2 to 5.4 points"),
        (-0.01, 0.032, "undecided: from 1.0 better to 3.2 worse"),
        (0.0, 0.032, "undecided: from no change to 3.2 worse"),
        (-0.032, 0.0, "undecided: from 3.2 better to no change"),
        (0.0001, 0.02, "worse by <0.1 to 2.0 points"),
    ],
)
def test_reading(low: float, high: float, words: str) -> None:
    assert reading(pair(difference(low, high))) == words


def test_reading_of_an_interval_without_width() -> None:
    same = [1.0, 0.0] * 100
    unchanged = compare(same, same, resamples=100, method=Method.bootstrap)
    assert reading(pair(unchanged)) == "no item changed score (n=200): the bootstrap can't bound it"
    one_item = compare([1.0], [0.0], resamples=100, method=Method.bootstrap)
    assert reading(pair(one_item)) == "all resamples agree (n=1): the bootstrap can't bound it"
    assert p_text(pair(one_item)) == p_text(pair(unchanged)) == "-"
    assert difference_text(unchanged)[1].endswith("*")


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_reading_never_hides_a_possible_loss(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    words = reading(pair(difference(low, high)))
    if low < high:
        assert ("worse" in words) == (high > 0)
        assert ("better" in words) == (low < 0)
        assert words.startswith("undecided") == (low <= 0 <= high)
    else:
        assert "can't bound" in words


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.37, "0.370"), (1.0, "1.000"), (0.0078, "0.0078"), (0.0002, "0.0002"), (0.0, "<0.0002")],
)
def test_p_is_shown_to_its_resolution(p: float, text: str) -> None:
    assert p_text(pair(difference(0.1, 0.2, p=p))) == text


def test_p_of_zero_with_few_resamples() -> None:
    assert p_text(pair(dataclasses.replace(difference(0.1, 0.2, p=0.0), resamples=10))) == "<0.2"


def test_no_negative_zero() -> None:
    assert format_points(-0.0001) == format_points(0.0001) == "0.0"


def test_the_ladder_starts_with_the_baseline_and_loses_bits() -> None:
    rows = [("Q3", 3.9), ("F16", 16.0), ("Q8_0", 8.5), ("Q5", 5.7)]
    ladder = summary([condition("m", q, bits=b) for q, b in rows], []).ladder("m", "gsm8k")
    assert [c.quant for c in ladder] == ["Q8_0", "F16", "Q5", "Q3"]


def test_chart_names() -> None:
    one = summary([condition("Qwen/Qwen2.5-7B", "Q8_0")], [])
    assert one.chart_stems() == {"Qwen/Qwen2.5-7B": "score_vs_bits"}
    models = ["a/B 1", "a-b-1", "../..", "", "a-b-1-2"]
    stems = summary([condition(m, "Q8_0") for m in models], []).chart_stems()
    assert list(stems) == models
    assert stems["a/B 1"] == "score_vs_bits-a-B-1"
    assert len({s.lower() for s in stems.values()}) == len(models)
    assert all("/" not in s and s.startswith("score_vs_bits-") for s in stems.values())
    assert summary([], []).chart_stems() == {}


def test_a_summary_refuses_what_it_would_lose() -> None:
    base, quant = condition("m", "Q8_0"), condition("m", "Q4", bits=4.9)
    one = pair(difference(0.1, 0.2))
    assert summary([base, quant], [one]).comparison(quant) == one
    assert summary([base, quant], [one]).comparison(base) is None
    with pytest.raises(ValueError, match="2 conditions for Q4 of m on gsm8k"):
        summary([base, quant, quant], [one])
    with pytest.raises(ValueError, match="2 comparisons for Q4 of m on gsm8k"):
        summary([base, quant], [one, one])
    with pytest.raises(ValueError, match="Q4 of m on gsm8k has no condition"):
        summary([base], [one])
    with pytest.raises(ValueError, match="is against F16"):
        summary([base, quant], [dataclasses.replace(one, baseline="F16")])


def test_facts_load_no_plotting() -> None:
    code = (
        "import sys, quantexp.comparison.summary;print(*{'matplotlib', 'rich', 'mlflow', 'hydra'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_points_are_percentage_points() -> None:
    assert difference_text(right_or_wrong(37, 18, 600)) == ("+3.2", "[+0.8, +5.7]")


@pytest.mark.parametrize(
    ("counts", "margin", "verdict", "words"),
    [
        ((0, 0, 600), 0.02, Verdict.within_margin, "within margin: at most 0.4 worse"),
        ((2, 30, 600), 0.02, Verdict.within_margin, "within margin: not worse at all"),
        ((16, 16, 600), 0.01, Verdict.inconclusive, "inconclusive: about 2,700 more items to tell (130 to 15,000)"),
        (
            *((0, 0, 24), 0.02, Verdict.inconclusive),
            "inconclusive: 24 items can show the margin only if more is gained than lost, 133 might otherwise",
        ),
        (  # a loss beyond the margin is shown by as many as show it to be worse
            *((12, 5, 100), 0.02, Verdict.inconclusive),
            "inconclusive: about 160 more items to tell (1 to 1,800)",
        ),
        (
            *((9, 0, 300), 0.03, Verdict.worse),
            "worse by 1.6 to 5.6 points",
        ),
        (
            *((5, 1, 300), 0.02, Verdict.inconclusive),
            "inconclusive: only 6 of 300 items changed, too few to say how many more would tell",
        ),
        ((37, 18, 600), 0.02, Verdict.worse, "worse by 0.8 to 5.7 points"),
        ((37, 18, 600), 0.06, Verdict.worse_within_margin, "worse, but within margin: at most 5.3 worse"),
    ],
)
def test_a_verdict_in_words(counts: tuple[int, int, int], margin: float, verdict: Verdict, words: str) -> None:
    comparison = pair(right_or_wrong(*counts), margin)
    assert comparison.decision is not None
    assert comparison.decision.verdict is verdict
    assert reading(comparison) == words


def test_nothing_to_lose_is_said_of_the_items_not_of_every_quant() -> None:
    found = compare([1.0] * 2 + [0.0] * 198, [1.0] * 2 + [0.0] * 198)
    compared = pair(found, 0.02)
    assert reading(compared) == "nothing to lose: the baseline scored 1.0 on these items"
    words = write_outcome(summary([condition("m", "Q8_0"), condition("m", "Q4", bits=4.9)], [compared]))
    assert words.startswith("Q4: the baseline scored no more than the margin on a task's items")


def test_p_is_the_corrected_one_where_there_is_a_verdict() -> None:
    found = right_or_wrong(37, 18, 600)
    others = [right_or_wrong(16, 16, 600)] * 8
    decision = decide([found, *others], 0.02)[0]
    comparison = Comparison("m", "gsm8k", "Q8_0", "Q4", found, decision)
    assert p_text(comparison) == "0.094"
    assert p_text(dataclasses.replace(comparison, decision=None)) == "0.010"
    assert p_text(pair(right_or_wrong(90, 0, 600), 0.02)) == "<0.0001"


def test_the_outcome_names_each_quant_once_by_what_is_known_of_it() -> None:
    def on(task: str, quant: str, counts: tuple[int, int, int]) -> Comparison:
        [decision] = decide([found := right_or_wrong(*counts)], 0.02)
        return Comparison("m", task, "Q8_0", quant, found, decision)

    harmless, worse, unclear = (0, 0, 600), (60, 10, 600), (20, 14, 300)
    compared = [
        *(on(task, "Q6", harmless) for task in ("a", "b")),
        *(on(task, "Q5", harmless) for task in ("a", "b")),
        *(on(task, "Q3", counts) for task, counts in (("a", worse), ("b", unclear))),
        *(on(task, "Q4", counts) for task, counts in (("a", harmless), ("b", unclear))),
    ]
    known = [condition("m", quant, task) for quant in ("Q8_0", "Q6", "Q5", "Q4", "Q3") for task in ("a", "b")]
    assert write_outcome(summary(known, compared)) == (
        "Q6 and Q5: within the margin on all tasks; Q3: worse on at least one task; Q4: inconclusive (too few items)."
    )
    assert write_outcome(summary(known, [])) == ""
    first, second = verdict(summary(known, compared))
    assert first == write_outcome(summary(known, compared))
    assert second == "The margin is 2.0 points; the smallest file within it on all tasks is Q6 (8.50 bits per weight)."


def test_a_choice_is_advised_only_where_every_task_was_compared() -> None:
    [decision] = decide([found := right_or_wrong(0, 0, 600)], 0.02)
    known = [condition("m", quant, task) for quant in ("Q8_0", "Q4") for task in ("a", "b")]
    first, second = verdict(summary(known, [Comparison("m", "a", "Q8_0", "Q4", found, decision)]))
    assert first == "Q4: within the margin on the tasks compared, which are not all."
    assert second == "The margin is 2.0 points; no quant has been shown to stay within it on all tasks."


def test_the_verdict_where_nothing_was_decided() -> None:
    known = [condition("m", quant) for quant in ("Q8_0", "Q5", "Q4")]
    compared = [
        Comparison("m", "gsm8k", "Q8_0", "Q5", difference(-0.1, 0.1)),
        Comparison("m", "gsm8k", "Q8_0", "Q4", difference(0.1, 0.2)),
    ]
    first, second = verdict(summary(known, compared))
    assert first == (
        "Q4: the interval is above 0 (worse) on gsm8k; "
        "Q5: no interval shows a loss, which does not mean that there is none."
    )
    assert second.startswith("No verdicts were asked for")
    assert verdict(summary(known, []))[0] == "Nothing was compared."


def test_the_verdict_says_what_is_missing() -> None:
    base, quant = condition("m", "Q8_0"), condition("m", "Q4", bits=4.9)
    broken = dataclasses.replace(summary([base, quant], []), failures=("a", "b"), refusals=("c",))
    assert sentences(broken)[0] == "Nothing was compared."
    assert sentences(broken)[2:] == ["Incomplete: 2 jobs failed, 1 run not paired."]
