"""Verdicts as columns of the per-item table, and the metrics that follow."""

import pandas as pd
import pytest
from tests.support.verdicts import regraded, verdict

from quantexp.config import StatsConfig
from quantexp.evaluation.scoring import score_metrics
from quantexp.stats import estimate
from quantexp.tasks import get_task
from quantexp.util.errors import UserError

GOLD = {
    "email": "...", "customer_name": "Ann", "issue_category": "billing", "urgency": "low", "requested_action": "refund",
}  # fmt: skip
ANSWER = '{"customer_name":"Ann","issue_category":"billing","urgency":"high","requested_action":"refund"}'

LENIENT, STRICT = (get_task("extraction").grader(name) for name in ("extraction", "extraction-nofence"))


def table(*answers: tuple[str, str, str]) -> pd.DataFrame:
    """A per-item table: id, output and why it ended."""
    return pd.DataFrame(
        {
            "item_id": item,
            "prompt": "a prompt",
            "output": output,
            **verdict(LENIENT, output, GOLD, reason),
            "finish_reason": reason,
            "completion_tokens": 5,
        }
        for item, output, reason in answers
    )


def test_an_item_that_was_never_asked_has_no_score() -> None:
    assert verdict(LENIENT, "", GOLD, "context") == {
        "extracted": None, "rule": None, "score": None, "grading_error": "not asked: does not fit the context",
    }  # fmt: skip
    assert verdict(LENIENT, "", GOLD, "stop")["score"] == 0


def test_a_table_keeps_its_columns_and_their_order_whichever_row_comes_first() -> None:
    before = table(("a", ANSWER, "stop"), ("b", "", "context"), ("c", f"```json\n{ANSWER}\n```", "length"))
    for rows in (before, before.iloc[[1, 0, 2]]):
        kept = rows.copy()
        after = regraded(rows, STRICT, dict.fromkeys("abc", GOLD))
        pd.testing.assert_frame_equal(rows, kept)
        assert list(after) == list(before)
        scores = after.set_index("item_id")["score"]
        assert (scores["a"], scores["c"]) == (pytest.approx(2 / 3), 0)
        assert pd.isna(scores["b"])


def test_which_rule_read_an_answer_is_a_column_and_what_was_cut_off_before_its_answer_counts_apart() -> None:
    grader = get_task("gsm8k").grader()
    gold = {"question": "?", "answer": "18"}
    outputs = [
        ("#### 18", "stop"), ("It is 18", "stop"), ("So far 18", "length"), ("none", "stop"), ("", "context"),
        (r"\boxed{18} and", "length"), ("#### 18\nand", "length"), ("#### 1", "length"),
    ]  # fmt: skip
    rows = pd.DataFrame(
        {"item_id": str(n), "cluster": str(n), "output": output, **verdict(grader, output, gold, reason)}
        | {"finish_reason": reason}
        for n, (output, reason) in enumerate(outputs)
    )
    assert rows["rule"].fillna("").tolist() == ["marker", "last number", "", "", "", "box", "marker", ""]
    assert rows["score"].fillna(-1).tolist() == [1, 1, 0, 0, -1, 1, 1, 0]
    metrics = score_metrics(rows, StatsConfig(resamples=100))
    assert (metrics["items_unreadable"], metrics["items_unfinished"]) == (1, 2)
    earlier = regraded(rows, get_task("gsm8k").grader("gsm8k-first"), dict.fromkeys("01234567", gold))
    assert earlier["rule"].fillna("").tolist() == [
        *("marker", "last number", "last number", "", "", "box", "marker", "marker"),
    ]
    assert earlier["score"][2] == 1
    assert list(regraded(rows.drop(columns="rule"), grader, dict.fromkeys("01234567", gold))) == list(rows)


def test_the_same_grader_gives_the_same_table() -> None:
    before = table(("a", ANSWER, "stop"), ("b", "", "context"), ("a", "what?", "length"))
    pd.testing.assert_frame_equal(regraded(before, LENIENT, {"a": GOLD, "b": GOLD}), before)


def test_an_item_that_the_data_have_no_more_is_named() -> None:
    before = table(("a", ANSWER, "stop"), ("b", ANSWER, "stop"), ("c", ANSWER, "stop"))
    with pytest.raises(UserError, match="2 of its items are not in the data any more, the first is b;"):
        regraded(before, STRICT, {"a": GOLD})


def test_an_interval_is_over_unique_items_in_any_order() -> None:
    rows = pd.DataFrame(
        {
            "item_id": ["c", "a", "b", "a", "d", "e"],
            "cluster": ["c", "a", "b", "a", "d", "e"],
            "score": [1.0, 0.0, 1.0, 0.5, None, 0.2],
            "grading_error": [None, "no", None, None, "not asked", None],
        }
    )
    rows.loc[rows["item_id"] == "e", "cluster"] = "b"
    found = estimate([0.25, 0.6, 1.0], resamples=100, seed=1, confidence=0.9)
    for shuffled in (rows, rows.iloc[::-1]):
        assert score_metrics(shuffled, StatsConfig(resamples=100, seed=1, confidence=0.9)) == {
            "score": found.mean, "score_low": found.low, "score_high": found.high, "items_unreadable": 1,
            "items_unfinished": 0,
        }  # fmt: skip
