"""What a sweep says of its number of items before it begins."""

import pytest

from quantexp.comparison.prospects import count_items, describe_prospects
from quantexp.config import Config, DataConfig, QuantConfig, StatsConfig, TaskConfig, Unit
from quantexp.stats import Kind, Method, Verdict, compare, decide, fewest_items
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import Dataset

BUNDLED = {
    task: load(DataConfig("bundled", "bundled"), get_task(task, None)) for task in ("gsm8k", "triviaqa", "extraction")
}


def jobs(limits: dict[str, int | None], stats: StatsConfig, seeds: int = 1) -> list[tuple[Config, Dataset]]:
    return [
        (
            Config(quant=QuantConfig(quant), task=TaskConfig(task, grader=task, limit=limit), seed=seed, stats=stats),
            BUNDLED[task],
        )
        for quant in ("Q8_0", "Q4_K_M")
        for task, limit in limits.items()
        for seed in range(seeds)
    ]


def prospects(limits: dict[str, int | None], stats: StatsConfig, seeds: int = 1) -> list[str]:
    return list(describe_prospects(count_items(jobs(limits, stats, seeds)), stats))


def sentence(counted: str, margin: str, fewest: int) -> str:
    return (
        f"{counted} can show a margin of {margin} points only for a quant that gains more than it loses: for others "
        f"{fewest} are the fewest; see python -m quantexp.plan"
    )


def test_too_few_items_are_told_with_the_fewest_that_would_do() -> None:
    assert prospects({"gsm8k": 24, "triviaqa": 24}, StatsConfig()) == [sentence("24 items", "2.0", 133)]


def test_items_with_several_fields_take_more() -> None:
    assert prospects({"gsm8k": 24, "extraction": 24}, StatsConfig()) == [
        sentence(f"24 items on {task}", "2.0", fewest) for task, fewest in (("gsm8k", 133), ("extraction", 149))
    ]


def test_tasks_of_other_numbers_and_margins_are_told_apart() -> None:
    stats = StatsConfig(margins={"triviaqa": 0.125})
    assert prospects({"gsm8k": 1, "triviaqa": 10}, stats) == [
        sentence("1 item on gsm8k", "2.0", 133),
        sentence("10 items on triviaqa", "12.5", 19),
    ]


def test_enough_items_are_passed_over_and_several_seeds_count_together() -> None:
    assert not prospects({"gsm8k": None}, StatsConfig())
    assert prospects({"gsm8k": 60}, StatsConfig())
    assert not prospects({"gsm8k": 60}, StatsConfig(), seeds=8)


def test_answers_are_counted_where_each_counts() -> None:
    stats = StatsConfig(unit=Unit.answer)
    [words] = prospects({"gsm8k": 24}, stats, seeds=2)
    assert words.startswith("48 answers can show a margin of 2.0 points only")
    assert not prospects({"gsm8k": None}, stats, seeds=2)


def test_more_gained_than_lost_shows_a_margin_with_fewer() -> None:
    before, after = [0.0] * 10 + [1.0] * 50, [1.0] * 60
    assert decide([compare(before, after)], 0.02)[0].verdict is Verdict.within_margin


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05, 0.2])
def test_the_fewest_items_show_the_margin_where_nothing_changes_and_one_less_does_not(margin: float) -> None:
    fewest = fewest_items(margin, kind=Kind.binary, method=Method.default)
    assert fewest is not None
    for n, shown in ((fewest, True), (fewest - 1, False)):
        right = [1.0] * n
        [decision] = decide([compare(right, right)], margin)
        assert decision.verdict.value.startswith("within") == shown
