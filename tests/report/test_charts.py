"""The charts of the page: what is on the Pareto front, where marks stand, and SVG that can live beside others."""

import re
from collections.abc import Mapping
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.summaries import LADDER, make_summary

from quantexp.comparison.summary import Summary
from quantexp.report.charts import charts
from quantexp.report.forest import forest, span
from quantexp.report.pareto import Offer, find_overlap, front, offers, tradeoff
from quantexp.report.subgroups import categories
from quantexp.report.svg import COLOURS, Panel, panel_style, shorten
from quantexp.stats import Interval, average

numbers = st.floats(0, 10).map(lambda each: round(each, 1))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12))
def test_the_front_holds_what_nothing_else_beats(choices: list[tuple[float, float]]) -> None:
    costs, scores = [cost for cost, _ in choices], [score for _, score in choices]
    on = front(costs, scores)
    assert any(on)
    for (cost, score), chosen in zip(choices, on, strict=True):
        better = [(c, s) for c, s in choices if c <= cost and s >= score and (c, s) != (cost, score)]
        assert chosen == (not better)


def test_a_front() -> None:
    assert front([8, 6, 5, 4, 4], [50, 52, 40, 41, 41]) == [False, True, False, True, True]


def test_an_offer_is_the_mean_over_all_tasks_and_a_quant_without_one_of_them_is_left_out() -> None:
    full = make_summary(tasks=("a", "b"), items=20)
    summary = replace(full, conditions=full.conditions[:-1], comparisons=full.comparisons[:-1])
    found, partial = offers(summary, "Qwen2.5-7B-Instruct")
    assert [offer.quant for offer in found] == ["Q8_0", "Q5_K_M", "Q4_K_M"]
    assert partial == ["Q3_K_M"]
    own = [c.estimate for c in summary.conditions if c.quant == "Q5_K_M"]
    assert found[1].score == average(own)
    assert found[1].tokens_per_second == pytest.approx(123.456)
    assert found[0].tokens_per_second is None
    chart = tradeoff(summary)
    assert chart is not None
    assert chart.missing == (
        "Without a score on every task, and so left out: Q3_K_M.",
        "Speed was not measured on every task: Q8_0.",
        "No front of speed is drawn: how far it spreads is not known of Q5_K_M, Q4_K_M.",
    )
    assert chart.numbers is not None
    assert [row[0] for row in chart.numbers.rows] == ["Q8_0", "Q5_K_M", "Q4_K_M"]


RANGES = {"Q8_0": (20.0, 22.0), "Q5_K_M": (25.0, 27.0), "Q4_K_M": (30.0, 32.0), "Q3_K_M": (40.0, 48.0)}


def timed(ranges: Mapping[str, tuple[float, float]], busy: float = 0.0) -> Summary:
    """A summary with these speeds, and a chart of them."""
    made = make_summary(tasks=("a", "b"), items=20)
    conditions = [
        replace(c, busy=busy, tokens_per_second=sum(ranges[c.quant]) / 2, speed_range=ranges[c.quant])
        for c in made.conditions
    ]
    return replace(made, conditions=tuple(conditions))


@pytest.mark.filterwarnings("error")
def test_speeds_whose_ranges_overlap_make_no_front() -> None:
    apart = tradeoff(timed(RANGES))
    assert apart is not None
    assert apart.numbers is not None
    assert apart.missing == ()
    assert "speed" in apart.numbers.rows[-1][-1]
    assert "44.0 [40.0, 48.0]" in apart.numbers.rows[-1]
    assert "10th to the 90th percentile" in apart.about
    overlapping = tradeoff(timed(RANGES | {"Q5_K_M": (21.0, 27.0)}, busy=0.5))
    assert overlapping is not None
    assert overlapping.numbers is not None
    assert overlapping.missing == (
        "No front of speed is drawn: the ranges of Q8_0 and Q5_K_M overlap.",
        "Other work took a share of the processor while speeds were measured: Q8_0 50%, Q5_K_M 50%, Q4_K_M 50%, "
        "Q3_K_M 50%.",
    )
    assert not any("speed" in row[-1] for row in overlapping.numbers.rows)
    of_speed = [panel.svg for panel in overlapping.panels if panel.title == "tokens/s"]
    assert len(of_speed) == 1
    assert "not on the front" not in of_speed[0]


@given(st.lists(st.tuples(st.floats(1, 99), st.floats(0, 9)), min_size=1, max_size=6))
def test_only_speeds_apart_from_each_other_have_an_order(drawn: list[tuple[float, float]]) -> None:
    ranges = [(low, low + wide) for low, wide in drawn]
    found = [Offer(str(n), Interval(0.5, 0.4, 0.6), 8.0, 1, 1.0, each) for n, each in enumerate(ranges)]
    pairs = [(one, other) for n, one in enumerate(ranges) for other in ranges[:n]]
    assert bool(find_overlap(found)) == any(a[0] <= b[1] and b[0] <= a[1] for a, b in pairs)


def test_with_one_quant_there_is_nothing_to_choose() -> None:
    assert tradeoff(make_summary(ladder=LADDER[:1], items=5)) is None


def test_the_axis_of_the_differences_holds_every_interval_and_0_and_the_margin() -> None:
    summary = make_summary(items=20)
    low, high = span([c.difference for c in summary.comparisons], [0.9])
    assert low < min(0.0, *(c.difference.low for c in summary.comparisons))
    assert high > 0.9
    assert span([])[0] < 0 < span([])[1]


def panels(summary: Summary) -> list[Panel]:
    return [panel for chart in charts(summary) for panel in chart.panels]


@pytest.mark.filterwarnings("error")
def test_panels_share_a_page_and_ignore_the_users_style() -> None:
    summary = make_summary(models=("$x$ ^", "<b>&"), tasks=("$a$_{b", "\u202ec\x07"), items=12)
    found = panels(summary)
    assert len(found) == 4 + 4 + 4 + 4
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert panels(summary) == found
    ids: list[str] = []
    for panel in found:
        root = ElementTree.fromstring(panel.svg)
        own = [each.attrib["id"] for each in root.iter() if "id" in each.attrib]
        used = re.findall(r'(?:url\(#|href="#)([^")]+)', panel.svg)
        assert set(used) == set(own)
        assert not any("style" in each.attrib for each in root.iter())
        assert {name for each in root.iter() for name in each.get("class", "").split()} <= set(panel.rules)
        ids += own
    assert len(set(ids)) == len(ids)
    declared = " ".join(rule for panel in found for rule in panel.rules.values())
    assert not any(colour in declared for colour in COLOURS)
    assert not re.search(r"#[0-9a-f]{6}", declared)


def test_words_are_text_and_every_quant_is_named() -> None:
    with panel_style():
        chart = forest(make_summary(items=12))
    for panel in chart.panels:
        texts = {each.text for each in ElementTree.fromstring(panel.svg).iter("text")}
        assert {quant for quant, _ in LADDER[1:]} <= texts


def test_without_parts_there_is_no_chart_of_them() -> None:
    assert categories(make_summary(items=8)) is None


@given(st.text(max_size=60))
def test_a_name_is_shortened_in_its_middle(text: str) -> None:
    assert len(shorten(text)) <= 26


def test_a_short_name_stays() -> None:
    assert shorten("Q4_K_M") == "Q4_K_M"
    assert shorten("a" * 20 + "b" * 20) == "a" * 12 + "…" + "b" * 12
