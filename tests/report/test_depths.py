"""Accuracy by length and depth: the parts of a comparison, the picture, and its table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tests.support.summaries import make_summary

from quantexp.comparison.flips import pair_answers
from quantexp.comparison.subgroups import parts
from quantexp.comparison.summary import Summary
from quantexp.report import write_report
from quantexp.report.depth_panels import depths
from quantexp.report.svg import panel_style
from quantexp.stats import Method
from quantexp.tracking.tags import PLACE

PLACES = ["4096 tokens, 0%", "4096 tokens, 50%", "4096 tokens", "16384 tokens, 0%", "16384 tokens, 50%", "16384 tokens"]


def table(right: list[float]) -> pd.DataFrame:
    """Twelve items in each place, of which a share is right."""
    scores = [np.arange(12) < 12 * share for share in right]
    rows = [(place, float(score)) for place, found in zip(PLACES, scores, strict=True) for score in found]
    frame = pd.DataFrame(rows, columns=[PLACE, "score"])
    names = [f"i{number}" for number in range(len(frame))]
    return frame.assign(seed=0, item_id=names, cluster=names, sample=0, extracted="x", grading_error=None)


def summary() -> Summary:
    full = make_summary(tasks=("long", "gsm8k"), ladder=(("Q8_0", 8.5), ("Q4_0", 4.5)))
    pairs = pair_answers(table([1, 1, 0.5, 1, 0.5, 0.5]), table([1, 1, 0.75, 0.75, 0, 0.5]))
    measured = parts(pairs, resamples=200, method=Method.default)
    return replace(full, comparisons=(replace(full.comparisons[0], parts=measured), *full.comparisons[1:]))


def test_each_place_is_compared_with_the_scores_of_both_sides() -> None:
    [measured] = [each.parts for each in summary().comparisons if each.parts]
    assert {part.by for part in measured} == {PLACE}
    losses = {part.name: part.difference.difference for part in measured}
    assert losses == dict(zip(PLACES, [0, 0, -0.25, 0.25, 0.5, 0], strict=True))
    for part in measured:
        assert part.scores is not None
        before, after = part.scores
        assert (before.mean, after.mean) == (part.difference.baseline_mean, part.difference.quant_mean)
        assert before.low <= before.mean <= before.high


def test_the_picture_has_the_baseline_and_what_each_condition_loses() -> None:
    with panel_style():
        chart = depths(summary())
    assert chart is not None
    assert [(panel.title, panel.beside) for panel in chart.panels] == [("long", "Q8_0: score"), ("long", "Q4_0: loss")]
    assert "16384 tokens, 50%: 50 (n=12)" in chart.panels[0].svg
    assert "16384 tokens, 50%: +50.0 (n=12); 16384 tokens, spread: 0.0 (n=12)" in chart.panels[1].svg
    assert chart.numbers is not None
    # Short texts first, from the beginning to the end, then what lies in several places.
    assert [row[1:3] for row in chart.numbers.rows] == [
        (length, depth) for length in ("4,096", "16,384") for depth in ("0%", "50%", "spread")
    ]
    baseline, quant, difference = chart.numbers.rows[4][5:]
    assert baseline.startswith("50.0 [")
    assert quant.startswith("0.0 [")
    assert difference.startswith("+50.0 [+")
    with panel_style():
        assert depths(make_summary()) is None


def test_the_report_has_it_as_a_file_a_table_and_a_link(tmp_path: Path) -> None:
    written = {path.name for path in write_report(summary(), tmp_path)}
    assert {"length_depth.png", "length_depth.svg"} <= written
    assert "accuracy by length and depth](length_depth.png)" in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert page.count("by length and depth, long: ") == 2
    assert "length_depth" not in {path.stem for path in write_report(make_summary(), tmp_path / "other")}
