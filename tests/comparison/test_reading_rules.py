"""Which rule read an answer: counted for every condition, and told where a quant is read by other rules."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from quantexp.aggregate import aggregate
from quantexp.config import StatsConfig, TrackingConfig
from quantexp.evaluation.scoring import score_metrics
from quantexp.tracking.store import Store
from quantexp.tracking.tags import CONFIG, IDENTITY

ITEMS = 24
Rules = Sequence[str | None]
MARKERS: Rules = ["marker"] * ITEMS


def table_of(rules: Rules | None, wrong: int, extracted: str | None = "1") -> pd.DataFrame:
    """A per-item table whose last answers are wrong; without the column where an earlier version has written it."""
    n = range(ITEMS)
    score = [1.0] * (ITEMS - wrong) + [0.0] * wrong
    columns = {
        **{"item_id": [f"i{each:02}" for each in n], "cluster": [f"c{each:02}" for each in n], "sample": 0},
        **{"difficulty": None, "prompt": "What?", "output": "It is.", "reference": "1", "extracted": extracted},
        **({} if rules is None else {"rule": rules}),
        **{"score": score, "grading_error": None, "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 4},
    }
    return pd.DataFrame(columns, index=n)


def report_on(
    folder: Path, baseline: Rules | None, quant: Rules | None, extracted: str | None = "1"
) -> tuple[str, str]:
    """The short report and the page of a sweep of two jobs, in which the quant has the last four answers wrong."""
    store = Store(TrackingConfig(str(folder / "mlruns")))
    aspects = {IDENTITY + aspect: '{"id": "g-v1"}' for aspect in ("model", "data", "prompt", "grader", "settings")}
    with store.start("a sweep", "sweep", None, {}) as sweep:
        for name, rules, wrong in (("Q8_0", baseline, 0), ("Q4_K_M", quant, 4)):
            tags = {"model": "m", "quant": name, "task": "t", "data": "d", "seed": "0", CONFIG: name, **aspects}
            tags |= {"quantexp.version": "0", "engine.system": "none", "host.processor": "none"}
            with store.start(name, "job", sweep.id, tags) as run:
                table = table_of(rules, wrong, extracted if wrong else "1")
                metrics: dict[str, float] = {
                    "items": ITEMS,
                    "items_not_asked": 0,
                    "items_cut_at_max_tokens": 0,
                    "completion_tokens": 96,
                }
                metrics |= {"bits_per_weight": 8.5, "run.tokens_per_second": 0.0}
                run.log(params={"file.sha256": name}, metrics=metrics | score_metrics(table, StatsConfig(resamples=50)))
                run.log_items(table)
                run.log_scores(table)
    assert all(aggregate(StatsConfig(resamples=50), store, sweep.id, [], folder / "report"))
    return (folder / "report" / "report.md").read_text(), (folder / "report" / "report.html").read_text()


def test_a_quant_that_is_read_by_another_rule_is_told_with_the_difference_where_both_were_read_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fallen: Rules = ["marker"] * 18 + ["last number"] * 5 + [None]
    short, page = report_on(tmp_path, MARKERS, fallen)
    told = " ".join(capsys.readouterr().out.split())
    sentence = (
        "Answers were read by other rules than the baseline's: Q4_K_M on t marker 18 (24), last number 5 (0) of 24"
    )
    assert f"Note: {sentence}, and where both were read by the same 0.0 [" in told
    assert "(n=18)" in told
    for text in (short, page):
        assert sentence in text.replace("&#39;", "'")
        assert "Rules that read the answers" in text
    assert "| t | Q4_K_M | 18 | 5 |" in short


@pytest.mark.parametrize("rules", [MARKERS, None], ids=["the same rules", "an earlier version"])
def test_nothing_is_told_where_rules_are_the_same_or_not_known(tmp_path: Path, rules: Rules | None) -> None:
    short, _ = report_on(tmp_path, rules, rules)
    assert "other rules" not in short
    assert ("Rules that read the answers" in short) == (rules is not None)


@pytest.mark.parametrize("without", [None, [None] * ITEMS], ids=["an earlier version", "a grader without rules"])
@pytest.mark.parametrize("side", [0, 1])
def test_nothing_is_told_where_one_side_does_not_say_its_rules(
    tmp_path: Path, without: Rules | None, side: int
) -> None:
    short, _ = report_on(tmp_path, *[(without, MARKERS), (MARKERS, without)][side])
    assert "other rules" not in short


def test_a_quant_of_which_nothing_could_be_read_is_told(tmp_path: Path) -> None:
    short, _ = report_on(tmp_path, MARKERS, [None] * ITEMS, extracted=None)
    assert "Q4_K_M on t marker 0 (24) of 24, none by the same." in short


def test_where_no_answer_was_read_alike_there_is_no_difference(tmp_path: Path) -> None:
    short, _ = report_on(tmp_path, MARKERS, ["last number"] * ITEMS)
    assert "marker 0 (24), last number 24 (0) of 24, none by the same." in short
