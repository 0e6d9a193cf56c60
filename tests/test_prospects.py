"""What a sweep says of its number of items before it begins."""

import pytest

from quantexp.config import Config, DataConfig, QuantConfig, StatsConfig, TaskConfig
from quantexp.data import load
from quantexp.prospects import describe_prospects
from quantexp.stats import Kind, Method, compare, decide, fewest_items
from quantexp.tasks import get_task
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


def test_too_few_items_are_told_with_the_fewest_that_would_do() -> None:
    assert list(describe_prospects(jobs({"gsm8k": 24, "triviaqa": 24}, StatsConfig()))) == [
        "24 items cannot show a margin of 2.0 points: 133 would be the fewest; see python -m quantexp.plan"
    ]


def test_items_with_several_fields_take_more() -> None:
    assert list(describe_prospects(jobs({"gsm8k": 24, "extraction": 24}, StatsConfig()))) == [
        f"24 items on {task} cannot show a margin of 2.0 points: {fewest} would be the fewest; "
        "see python -m quantexp.plan"
        for task, fewest in (("gsm8k", 133), ("extraction", 149))
    ]


def test_tasks_of_other_numbers_and_margins_are_told_apart() -> None:
    stats = StatsConfig(margins={"triviaqa": 0.125})
    assert list(describe_prospects(jobs({"gsm8k": 1, "triviaqa": 10}, stats))) == [
        "1 item on gsm8k cannot show a margin of 2.0 points: 133 would be the fewest; see python -m quantexp.plan",
        "10 items on triviaqa cannot show a margin of 12.5 points: 19 would be the fewest; see python -m quantexp.plan",
    ]


def test_enough_items_are_passed_over_and_several_seeds_count_together() -> None:
    assert not list(describe_prospects(jobs({"gsm8k": None}, StatsConfig())))
    assert list(describe_prospects(jobs({"gsm8k": 60}, StatsConfig())))
    assert not list(describe_prospects(jobs({"gsm8k": 60}, StatsConfig(), seeds=8)))


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05, 0.2])
def test_the_fewest_items_show_the_margin_where_nothing_changes_and_one_less_does_not(margin: float) -> None:
    fewest = fewest_items(margin, kind=Kind.binary, method=Method.default)
    assert fewest is not None
    for n, shown in ((fewest, True), (fewest - 1, False)):
        right = [1.0] * n
        [decision] = decide([compare(right, right)], margin)
        assert decision.verdict.value.startswith("within") == shown
