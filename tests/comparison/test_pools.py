"""All tasks of a model in one decision, and several models in one sentence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.comparison.test_pairing import record

from quantexp.comparison.pairing import summarise
from quantexp.comparison.policy import Status, judge
from quantexp.comparison.summary import POOL, Summary
from quantexp.comparison.wording import reading
from quantexp.config import Method, PolicyConfig, Pool, StatsConfig, Unit
from quantexp.report import write_report
from quantexp.report.conclusions import sentences
from quantexp.report.gate_files import describe_ruling
from quantexp.report.pools import model_outcomes, pool_outcomes, pools_grid
from quantexp.stats import HeldBack, Verdict, pool
from quantexp.tracking.reader import JobRecord
from quantexp.util.errors import UserError

Counts = tuple[int, int, int]
"""Items lost, gained, and all."""


def runs(task: str, counts: Counts, quant: str = "Q4", model: str = "m", **options: Any) -> list[JobRecord]:
    """The baseline's run and a quant's on one task."""
    lost, gained, n = counts
    baseline = np.repeat([1.0, 0.0, 1.0], [lost, gained, n - lost - gained])
    scores = np.repeat([0.0, 1.0, 1.0], [lost, gained, n - lost - gained])
    return [
        record(
            name,
            {f"{task}{place}": float(score) for place, score in enumerate(each)},
            task=task,
            model=model,
            **options,
        )
        for name, each in (("Q8_0", baseline), (quant, scores))
    ]


def summary_of(tasks: dict[str, Counts], *more: Sequence[JobRecord], **stats: Any) -> Summary:
    records = [run for task, counts in tasks.items() for run in runs(task, counts)]
    records += [run for each in more for run in each]
    options = {"pool": Pool.tasks, "resamples": 200, **stats}
    return summarise(records, [], StatsConfig(**options), "title")


def verdicts(summary: Summary) -> dict[str, Verdict]:
    found = {each.task: each.decision.verdict for each in summary.comparisons if each.decision}
    [pooled] = summary.pools
    return found | ({} if pooled.decision is None else {POOL: pooled.decision.verdict})


def test_without_a_pool_nothing_changes() -> None:
    tasks = {"s": (3, 1, 300), "t": (20, 2, 300)}
    plain, pooled = summary_of(tasks, pool=Pool.none), summary_of(tasks, pool_margin=0.2)
    assert [*plain.pools, *plain.across, *plain.unpooled] == []
    assert [each.difference for each in plain.comparisons] == [each.difference for each in pooled.comparisons]


@pytest.mark.parametrize("weighting", [Pool.items, Pool.tasks, Pool.weights])
def test_the_pool_is_that_of_the_tasks_items(weighting: Pool) -> None:
    tasks = {"s": (9, 3, 300), "t": (4, 2, 100)}
    weights = {"s": 1.0, "t": 2.0} if weighting is Pool.weights else {}
    [found] = summary_of(tasks, pool=weighting, pool_weights=weights).pools
    sides = [
        [np.repeat(values, [lost, gained, n - lost - gained]) for lost, gained, n in tasks.values()]
        for values in ([1.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    ]
    given = {Pool.items: None, Pool.tasks: [1.0, 1.0], Pool.weights: [1.0, 2.0]}[weighting]
    expected = pool(*sides, weights=given, resamples=200)
    assert found.tasks == ("s", "t")
    assert found.pooled.weights == expected.weights
    assert found.difference.difference == pytest.approx(expected.overall.difference)
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.overall.low, expected.overall.high))


def test_the_pool_comes_first_and_opens_the_gate() -> None:
    # Alone, each task is within two points; so is the pool.
    summary = summary_of({"s": (0, 0, 400), "t": (0, 0, 400)})
    assert set(verdicts(summary).values()) == {Verdict.within_margin}
    # One task loses: the pool is not within, and so the other is not called so.
    summary = summary_of({"s": (0, 0, 400), "t": (40, 2, 400)})
    assert verdicts(summary) == {"s": Verdict.inconclusive, "t": Verdict.worse, POOL: Verdict.worse}
    held = summary.comparisons[0]
    assert held.decision is not None
    assert held.decision.held_back is HeldBack.pool
    assert reading(held).startswith("inconclusive: alone at most 0.7 worse, but the pool, which comes first,")
    # Behind an open gate Holm holds back what is only just within.
    summary = summary_of({"s": (0, 0, 400), "t": (0, 0, 135)}, pool_margin=0.1)
    assert verdicts(summary) == {"s": Verdict.within_margin, "t": Verdict.within_margin, POOL: Verdict.within_margin}
    summary = summary_of({"s": (0, 0, 135), "t": (2, 2, 300), "u": (0, 0, 135)}, pool_margin=0.1)
    assert verdicts(summary)["t"] is Verdict.inconclusive
    assert summary.comparisons[0].decision is not None
    assert summary.comparisons[0].decision.held_back is HeldBack.tasks


def test_a_loss_stands_behind_no_gate_and_pools_are_of_the_family() -> None:
    tasks = {"s": (0, 0, 400), "t": (30, 2, 400)}
    alone, pooled = summary_of(tasks, pool=Pool.none), summary_of(tasks)
    before, after = (each.comparisons[1].decision for each in (alone, pooled))
    assert before is not None
    assert after is not None
    assert after.verdict is Verdict.worse
    assert after.p_adjusted == pytest.approx(before.p_adjusted * 3 / 2)


def test_what_cannot_be_pooled_is_said() -> None:
    tasks = {"s": (1, 0, 50), "t": (1, 0, 50)}
    [said] = summary_of(tasks, runs("s", (1, 1, 50), "Q3")[1:]).unpooled
    assert said == "Q3 of m has no pool, for it was not compared on t: run it there too."
    summary = summary_of(tasks, pool=Pool.weights, pool_weights={"s": 1.0, "x": 1.0})
    assert summary.unpooled == ("The tasks of m are not pooled: stats.pool_weights names x, which was not run.",)
    assert summary.unpooled[0] in summary.notes
    ways = [*runs("s", (1, 0, 50)), *runs("s", (1, 0, 50), change={"prompt.shots": 5})]
    [said] = summarise(ways, [], StatsConfig(pool=Pool.items), "title").unpooled
    assert "was run in several ways" in said
    assert summary_of({"s": (1, 0, 50)}).pools == ()


def test_a_gate_holds_the_pool_to_its_margin() -> None:
    def statuses(tasks: dict[str, Counts], **policy: Any) -> dict[tuple[str, str], Status]:
        rules = PolicyConfig(**{"pool": Pool.tasks, **policy})
        found = judge(summary_of(tasks, pool=rules.pool, pool_margin=rules.pool_margin), rules)
        return {(each.rule, each.task): each.status for each in found}

    calm, torn = {"s": (0, 0, 400), "t": (0, 0, 400)}, {"s": (0, 0, 400), "t": (40, 2, 400)}
    assert set(statuses(calm).values()) == {Status.passed}
    assert statuses(torn)["pool", POOL] is Status.failed
    assert statuses(torn, pool_margin=0.1, each_task=False) == {("pool", POOL): Status.passed}
    assert statuses({"s": (1, 1, 30), "t": (1, 1, 30)})["pool", POOL] is Status.inconclusive
    assert statuses({"s": (0, 0, 400)})["pool", ""] is Status.inconclusive


def test_published_statistics_pool_without_a_verdict() -> None:
    summary = summary_of({"s": (9, 3, 300), "t": (4, 2, 100)}, method=Method.bootstrap, unit=Unit.answer)
    [found] = summary.pools
    assert found.decision is None
    assert found.difference.interval_method.startswith("percentile bootstrap")
    assert (found.difference.low, found.difference.high) == (found.pooled.bootstrap_low, found.pooled.bootstrap_high)
    assert pool_outcomes(summary)[0].startswith("2 tasks pooled (each task counts equally): Q4 ")


def test_numbers_of_items_must_be_fixed_beforehand() -> None:
    with pytest.raises(UserError, match=r"stats\.pool needs numbers of items that are fixed beforehand"):
        summary_of({"s": (1, 0, 50), "t": (1, 0, 50)}, method=Method.sequential)
    with pytest.raises(UserError, match=r"stats\.pool_weights are of stats\.pool=weights"):
        summary_of({"s": (1, 0, 50), "t": (1, 0, 50)}, pool_weights={"s": 1.0})


MODELS = {"a": ("llama", (12, 4, 200)), "b": ("llama", (9, 4, 200)), "c": ("qwen2", (20, 2, 200))}


def models_summary(**stats: Any) -> Summary:
    records = [
        run
        for model, (family, counts) in MODELS.items()
        for task in ("s", "t")
        for run in runs(task, counts, model=model, change={"model.architecture": family})
    ]
    return summarise(records, [], StatsConfig(**{"resamples": 200, **stats}), "title")


def test_over_models_it_says_how_many_and_that_they_are_few() -> None:
    summary = models_summary(pool=Pool.tasks)
    assert {(each.task, each.quant) for each in summary.across} == {(POOL, "Q4"), ("s", "Q4"), ("t", "Q4")}
    first, second = model_outcomes(summary)
    assert first.startswith("Over 3 models of 2 families, Q4 loses +")
    assert first.endswith("] points on the pool of tasks.")
    assert second.startswith("3 models are very few")
    assert "models of one family are alike" in second
    assert first in sentences(summary)
    of_pool = summary.across[0]
    assert of_pool.losses == tuple(each.difference.difference for each in summary.pools)
    assert of_pool.average.low < of_pool.average.mean < of_pool.average.high


def test_a_gate_names_the_model_of_each_rule_where_there_are_several() -> None:
    rulings = judge(models_summary(pool=Pool.tasks), PolicyConfig(pool=Pool.tasks, each_task=False))
    lines = [describe_ruling(each, with_model=True).partition(", pool: ")[0].partition(": ")[2] for each in rulings]
    assert lines == [f"Q4 of {model} on pool" for model in MODELS]


def test_errors_that_models_share_are_seen() -> None:
    # The models lose the same items of the same data, but c, which loses others too.
    summary = models_summary()
    assert all(each.average.shared > 0 for each in summary.across)
    apart = [
        run
        for model, (family, counts) in MODELS.items()
        for run in runs("s", counts, model=model, change={"model.architecture": family, "data.fingerprint": model * 64})
    ]
    [other] = summarise(apart, [], StatsConfig(resamples=200), "title").across
    assert other.average.shared == 0


def test_a_family_can_be_named() -> None:
    records = [
        run for model in "ab" for run in runs("s", (5, 2, 60), model=model, params={"model.family": f"family {model}"})
    ]
    [found] = summarise(records, [], StatsConfig(resamples=200), "title").across
    assert found.families == ("family a", "family b")
    one = replace(found, families=("x", "x"))
    assert "of one family, which says nothing of others" in model_outcomes(replace(models_summary(), across=(one,)))[-1]


def test_the_report_shows_pools_and_models(tmp_path: Path) -> None:
    summary = models_summary(pool=Pool.items)
    files = {path.name for path in write_report(summary, tmp_path)}
    assert {"pools.csv", "models.csv", "models.png", "models.svg", "pool-a.png"} <= files
    page = (tmp_path / "report.html").read_text()
    for place in ("pool", "models", "pooled", "forest-of-models"):
        assert f'href="#{place}"' in page
        assert page.count(f'id="{place}"') == 1
    markdown = (tmp_path / "report.md").read_text()
    for text in (page, markdown):
        assert "Over 3 models of 2 families" in text
        assert "Order of claims" in text
    lines = (tmp_path / "pools.csv").read_text().splitlines()
    assert len(lines) == 1 + len(MODELS)
    assert {len(row) for row in pools_grid(summary).rows} == {len(pools_grid(summary).header)}
