"""The charts of the page: what is on the Pareto front, where marks stand, and SVG that can live beside others."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.made import LADDER, make_summary

from quantexp.report import Summary
from quantexp.report.categories import categories
from quantexp.report.charts import charts
from quantexp.report.forest import forest, span
from quantexp.report.panels import COLOURS, Panel, panel_style, shortened
from quantexp.report.tradeoff import front, offers, tradeoff
from quantexp.stats import average

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
    )
    assert chart.numbers is not None
    assert [row[0] for row in chart.numbers.rows] == ["Q8_0", "Q5_K_M", "Q4_K_M"]


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
    assert len(shortened(text)) <= 26


def test_a_short_name_stays() -> None:
    assert shortened("Q4_K_M") == "Q4_K_M"
    assert shortened("a" * 20 + "b" * 20) == "a" * 12 + "…" + "b" * 12
