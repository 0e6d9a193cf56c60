"""The pick: the smallest that fits and is within the margin, by what the verdicts say."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.support.summaries import make_summary

from quantexp.comparison.pick import Memory, Outcome, Pick, Quality, Wish, decide_outcome, pick
from quantexp.comparison.summary import Summary
from quantexp.models.footprint import Footprint
from quantexp.stats import Verdict
from quantexp.util.errors import UserError

WITHIN, SMALL_LOSS = Verdict.within_margin, Verdict.worse_within_margin
WORSE, UNSURE, FLOOR = Verdict.worse, Verdict.inconclusive, Verdict.nothing_to_lose
MODEL = "Qwen2.5-7B-Instruct"
GB = 10**9
LADDER = {"Q8_0": 9 * GB, "Q5_K_M": 7 * GB, "Q4_K_M": 6 * GB, "Q3_K_M": 5 * GB}


def judged(verdicts: Mapping[str, tuple[Verdict, ...]], tasks: tuple[str, ...] = ("gsm8k",)) -> Summary:
    """A summary with these verdicts, a task each."""
    made = make_summary(tasks=tasks)
    comparisons = []
    for each in made.comparisons:
        assert each.decision is not None
        verdict = verdicts[each.quant][tasks.index(each.task)]
        comparisons.append(replace(each, decision=replace(each.decision, verdict=verdict)))
    conditions = tuple(replace(each, tokens_per_second=8.5 / each.bits_per_weight * 10) for each in made.conditions)
    return replace(made, comparisons=tuple(comparisons), conditions=conditions)


def memories(*unknown: str) -> dict[tuple[str, str], Memory]:
    return {
        (MODEL, name): Memory(total - GB, Footprint(8192, GB // 2, GB // 2), is_measured=True)
        for name, total in LADDER.items()
        if name not in unknown
    }


def picked(summary: Summary, wish: Wish, *unknown: str) -> Pick:
    [found] = pick(summary, memories(*unknown), wish)
    return found


def names(found: Pick) -> tuple[str | None, list[str], list[str]]:
    chosen = found.chosen.name if found.chosen else None
    return chosen, [each.name for each in found.runners_up], [each.name for each in found.uncertain]


def test_the_smallest_within_the_margin_is_picked() -> None:
    summary = judged({"Q5_K_M": (WITHIN,), "Q4_K_M": (SMALL_LOSS,), "Q3_K_M": (UNSURE,)})
    found = picked(summary, Wish(8192, 16 * GB))
    assert names(found) == ("Q4_K_M", ["Q5_K_M", "Q8_0"], ["Q3_K_M"])
    assert [each.name for each in found.candidates] == ["Q3_K_M", "Q4_K_M", "Q5_K_M", "Q8_0"]
    assert found.outcome is Outcome.picked
    # What does not fit is neither picked nor a runner-up; the budget itself fits.
    assert names(picked(summary, Wish(8192, 6 * GB))) == ("Q4_K_M", [], ["Q3_K_M"])
    assert names(picked(summary, Wish(8192))) == names(found)


def test_one_task_that_is_worse_or_not_certain_decides() -> None:
    tasks = ("gsm8k", "triviaqa")
    verdicts = {"Q5_K_M": (WITHIN, FLOOR), "Q4_K_M": (WITHIN, WORSE), "Q3_K_M": (UNSURE, WORSE)}
    found = picked(judged(verdicts, tasks), Wish(8192, 16 * GB))
    assert names(found) == ("Q8_0", [], ["Q5_K_M"])
    quality = {each.name: each.quality for each in found.candidates}
    assert quality["Q4_K_M"] is quality["Q3_K_M"] is Quality.worse
    # A task on which it was not compared is not certain either.
    summary = judged({"Q5_K_M": (WITHIN, WITHIN), "Q4_K_M": (WITHIN, WITHIN), "Q3_K_M": (WITHIN, WITHIN)}, tasks)
    some = tuple(each for each in summary.comparisons if (each.quant, each.task) != ("Q3_K_M", "triviaqa"))
    found = picked(replace(summary, comparisons=some), Wish(8192))
    assert names(found) == ("Q4_K_M", ["Q5_K_M", "Q8_0"], ["Q3_K_M"])
    assert found.uncertain[0].missing == ("triviaqa",)


def test_nothing_fits_and_nothing_is_certain() -> None:
    summary = judged({"Q5_K_M": (UNSURE,), "Q4_K_M": (UNSURE,), "Q3_K_M": (WORSE,)})
    found = picked(summary, Wish(8192, 8 * GB))
    assert (names(found), found.outcome) == ((None, [], ["Q4_K_M", "Q5_K_M"]), Outcome.uncertain)
    found = picked(summary, Wish(8192, 5 * GB))
    assert (names(found), found.outcome) == ((None, [], []), Outcome.nothing), "what fits is worse"
    assert picked(summary, Wish(8192, GB)).outcome is Outcome.nothing
    found = picked(summary, Wish(8192, 16 * GB), *LADDER)
    assert (found.outcome, found.candidates[0].fits) == (Outcome.nothing, None)
    assert decide_outcome([found, picked(summary, Wish(8192, 16 * GB))]) is Outcome.picked


def test_speed_and_memory_that_nobody_knows_do_not_do() -> None:
    summary = judged({"Q5_K_M": (WITHIN,), "Q4_K_M": (WITHIN,), "Q3_K_M": (WITHIN,)})
    assert names(picked(summary, Wish(8192, 16 * GB), "Q3_K_M")) == ("Q4_K_M", ["Q5_K_M", "Q8_0"], [])
    # 10, 14.9, 17.5 and 21.7 tokens a second.
    assert names(picked(summary, Wish(8192, 8 * GB, speed=16))) == ("Q3_K_M", ["Q4_K_M"], [])
    assert names(picked(summary, Wish(8192, 8 * GB, speed=16), "Q3_K_M")) == ("Q4_K_M", [], [])
    untimed = tuple(replace(each, tokens_per_second=None) for each in summary.conditions)
    assert picked(replace(summary, conditions=untimed), Wish(8192, speed=1)).chosen is None


def test_a_placebo_is_no_candidate_and_no_verdicts_no_pick() -> None:
    summary = judged({"Q5_K_M": (WITHIN,), "Q4_K_M": (WITHIN,), "Q3_K_M": (WITHIN,)})
    marked = tuple(replace(each, is_placebo=each.quant == "Q3_K_M") for each in summary.conditions)
    found = picked(replace(summary, conditions=marked), Wish(8192))
    assert [each.name for each in found.candidates] == ["Q4_K_M", "Q5_K_M", "Q8_0"]
    bare = tuple(replace(each, decision=None) for each in summary.comparisons)
    with pytest.raises(UserError, match="stats=published"):
        picked(replace(summary, comparisons=bare), Wish(8192))
