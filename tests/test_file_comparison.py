"""`quantexp.compare`, on data frames and files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import quantexp
from quantexp.config import Pool, StatsConfig
from quantexp.stats import compare as compare_scores
from quantexp.util.errors import UserError

DATA = Path(__file__).parent / "comparison" / "results" / "data" / "lm_eval"


@pytest.fixture(scope="module")
def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(3)
    base = pd.DataFrame({"id": range(300), "correct": rng.random(300) < 0.7})
    other = base.assign(correct=base["correct"] & (rng.random(300) < 0.9))
    return base, other.sample(frac=1, random_state=1)


def test_frames_give_what_the_statistics_give(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    base, other = frames
    result = quantexp.compare(base, other, margin=0.05)
    [row] = result.comparisons.to_dict("records")
    paired = base.merge(other, on="id", suffixes=("", "_other")).astype(float)
    expected = compare_scores(paired["correct"].to_numpy(), paired["correct_other"].to_numpy())
    assert (row["baseline"], row["quant"], row["margin"]) == ("baseline", "other", 0.05)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (expected.difference, expected.low, expected.high)
    )
    assert row["p_value"] == pytest.approx(expected.p_value)
    assert row["verdict"] == "worse"
    assert len(result.flips) == row["lost"] == expected.lost
    assert result.conditions["n"].tolist() == [300, 300]
    assert "bits_per_weight" not in result._repr_markdown_()


def test_several_tasks_are_one_decision(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    base, other = (pd.concat([side.assign(task="a"), side.assign(task="b").head(100)]) for side in frames)
    result = quantexp.compare(base, other, stats=StatsConfig(pool=Pool.tasks, margin=0.3, resamples=100))
    [row] = result.pools.to_dict("records")
    assert row["difference"] == pytest.approx(result.comparisons["difference"].mean())
    assert row["low"] < row["difference"] < row["upper"] < row["high"]
    assert row["verdict"] == "worse, but within margin"
    assert "2 tasks pooled (each task counts equally, margin 30.0 points): other worse, but" in repr(result)
    with pytest.raises(UserError, match="weights of at least two tasks"):
        quantexp.compare(base, other, stats=StatsConfig(pool=Pool.weights))


def test_an_outcome_is_shown(frames: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    result = quantexp.compare(*frames, names=["<full>", "4 bit"], stats=StatsConfig(margin=0.2))
    assert repr(result).startswith("<comparison with <full>: 4 bit: ")
    assert "<p>4 bit: " in result._repr_html_()
    assert "<full>" not in result._repr_html_()
    assert result._repr_markdown_().startswith("**4 bit: ")
    written = result.write(tmp_path / "report")
    assert tmp_path / "report" / "report.html" in written
    assert all(path.is_file() for path in written)


def test_a_name_may_look_like_a_factor(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    result = quantexp.compare(*frames, names=["a lanes=1", "a lanes=2"])
    assert result.comparisons["quant"].tolist() == ["a lanes=2"]


def test_paths_are_read_as_the_command_reads_them() -> None:
    result = quantexp.compare(DATA / "base", str(DATA / "q4"), metric="acc_norm", filter="flexible-extract")
    assert result.comparisons["task"].tolist() == ["common_words", "shelf_sums"]
    assert set(result.comparisons["quant"]) == {"q4"}
    assert set(result.conditions["grader"]) == {"acc_norm", "exact_match (flexible-extract)"}
    assert result.flips["quant_output"].str.contains("There are").any()


@pytest.mark.parametrize(("harness", "metric"), [("lighteval", "em"), ("inspect", "match")])
def test_logs_of_other_harnesses(harness: str, metric: str) -> None:
    if harness == "inspect":
        pytest.importorskip("inspect_ai")
    result = quantexp.compare(DATA.parent / harness / "base", DATA.parent / harness / "q4")
    [row] = result.comparisons.to_dict("records")
    assert (row["task"], row["baseline"], row["quant"], row["n"], row["answers"]) == (
        "shelf_sums",
        "base",
        "q4",
        20,
        21,
    )
    assert set(result.conditions["grader"]) == {metric}
    scores = result.conditions.set_index("quant")["mean"]
    assert row["difference"] == pytest.approx(scores["base"] - scores["q4"])


def test_a_mistake_gets_one_sentence(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    base, other = frames
    with pytest.raises(quantexp.UserError, match="needs a baseline and at least one other"):
        quantexp.compare(base)
    with pytest.raises(quantexp.UserError, match="baseline and other are the same results"):
        quantexp.compare(base, base.copy())
    with pytest.raises(quantexp.UserError, match="names has 1 names for 2 results"):
        quantexp.compare(base, other, names=["a"])
    with pytest.raises(quantexp.UserError, match="'a y=1 x=2' reads as a quant with other factors"):
        quantexp.compare(base, other, names=["a y=1 x=2", "b"])
    with pytest.raises(quantexp.UserError, match="margin=2 must be above 0 and below 1"):
        quantexp.compare(base, other, margin=2)
    with pytest.raises(quantexp.UserError, match="baseline has no column that is known as a score"):
        quantexp.compare(base.rename(columns={"correct": "x"}), other)


def test_the_function_and_the_command_of_the_same_name_live_together() -> None:
    program = """
import sys
import quantexp
before = quantexp.compare
import quantexp.compare
from quantexp import compare
from quantexp.compare import main
assert quantexp.compare is compare is before, quantexp.compare
assert callable(main) and sys.modules["quantexp.compare"].main is main
"""
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", program], check=True)
    listed = [sys.executable, "-m", "quantexp.compare", "--version"]
    assert subprocess.run(listed, check=True, capture_output=True, text=True).stdout.startswith("quantexp ")
