"""What would settle an inconclusive comparison: the cheapest first, with its price, and no number made up."""

from dataclasses import replace

import pytest
from tests.report.test_files import printed
from tests.report.test_html import Page
from tests.support.summaries import LADDER, make_summary

from quantexp.comparison.costs import Cost
from quantexp.comparison.summary import Summary
from quantexp.comparison.wording import round_items
from quantexp.report.charts import charts
from quantexp.report.html import report_html
from quantexp.report.markdown import report_markdown
from quantexp.report.settling import find_proposals, settling_line
from quantexp.stats import Method, Verdict, compare, decide


def priced(summary: Summary, seconds: dict[str, float], in_data: int | None = None) -> Summary:
    """The summary with what an item costs on each task: so many seconds, and ten tokens a second."""
    return replace(
        summary,
        conditions=tuple(
            replace(each, cost=Cost(10 * seconds[each.task], seconds[each.task]), items_in_data=in_data)
            for each in summary.conditions
        ),
    )


@pytest.fixture(scope="module")
def open_ones() -> Summary:
    """Two tasks of which nothing is decided, though many items changed."""
    made = make_summary(tasks=("dear", "cheap"), ladder=LADDER[:2], items=12)
    changed = {"dear": (16, 14), "cheap": (19, 14)}
    differences = [
        compare([1.0] * (300 - gained) + [0.0] * gained, [0.0] * lost + [1.0] * (300 - lost))
        for lost, gained in (changed[each.task] for each in made.comparisons)
    ]
    pairs = zip(made.comparisons, differences, decide(differences, 0.02), strict=True)
    comparisons = tuple(replace(each, difference=found, decision=decision) for each, found, decision in pairs)
    assert {each.decision.verdict for each in comparisons if each.decision} == {Verdict.inconclusive}
    return replace(made, comparisons=comparisons)


def test_the_cheapest_comes_first_with_its_price(open_ones: Summary) -> None:
    summary = priced(open_ones, {"dear": 60.0, "cheap": 0.5})
    found = find_proposals(summary)
    assert len(found) >= 2
    known = [each for each in found if each.items is not None]
    assert known
    seconds = [each.cost.seconds or 0 for each in known if each.cost is not None]
    assert seconds == sorted(seconds)
    first = known[0]
    assert first.items is not None
    assert seconds[0] == pytest.approx(2 * {"dear": 60.0, "cheap": 0.5}[first.comparison.task] * first.items)
    line = settling_line(summary)
    assert (
        f"{first.comparison.quant} on {first.comparison.task}, with about {round_items(first.items)} more items" in line
    )
    assert "tokens" in line
    assert "min here" in line
    assert "divergence=true measures how far the quant is from the baseline on the answers that are there" in line
    assert line in " ".join(printed(summary, 300).split())
    for page in (report_markdown(summary), Page(report_html(summary, charts(summary))).text):
        assert "What would settle it" in page
        assert round_items(first.items) in page


def test_more_than_the_data_have_is_said(open_ones: Summary) -> None:
    line = settling_line(priced(open_ones, {"dear": 1.0, "cheap": 1.0}, in_data=310))
    assert "of which its data have 10: other data or another task" in line


def test_where_hardly_anything_changed_no_number_is_made_up() -> None:
    summary = priced(make_summary(tasks=("gsm8k",), ladder=LADDER[:2], items=12), {"gsm8k": 5.0})
    assert all(each.items is None for each in find_proposals(summary))
    line = settling_line(summary)
    assert line.startswith("Too few items changed to say how many more would tell; as many again take")
    assert "2 min here" in line
    for page in (report_markdown(summary), Page(report_html(summary, ())).text):
        assert line in page
        assert "more items" not in page.partition("What would settle it")[2].partition("How to read")[0]


def decided(*counts: tuple[int, int, int]) -> Summary:
    """Quants that lose and gain so many of so many items."""
    made = make_summary(tasks=("gsm8k",), ladder=LADDER[: len(counts) + 1], items=12)
    found = [
        compare([0.0] * gained + [1.0] * (n - gained), [1.0] * (n - lost) + [0.0] * lost) for lost, gained, n in counts
    ]
    pairs = zip(made.comparisons, found, decide(found, 0.02), strict=True)
    return replace(
        made, comparisons=tuple(replace(each, difference=one, decision=decision) for each, one, decision in pairs)
    )


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([(0, 0, 24)], "Too few items asked to say how many more would tell."),
        ([(6, 1, 300)], "Too few items changed to say how many more would tell."),
        ([(0, 0, 24), (6, 1, 300)], "Too few items asked or changed to say how many more would tell."),
    ],
)
def test_the_reason_for_no_number_is_the_one_there_is(counts: list[tuple[int, int, int]], reason: str) -> None:
    assert settling_line(decided(*counts)).startswith(reason)


def test_nothing_is_proposed_where_nothing_is_open_or_asked() -> None:
    for summary in (make_summary(ladder=LADDER[:1], items=5), make_summary(items=9, method=Method.bootstrap)):
        assert settling_line(summary) == ""
        assert "What would settle it" not in report_markdown(summary)


def test_of_several_quants_divergence_is_said_to_rank_them() -> None:
    assert "divergence=true ranks the quants" in settling_line(make_summary(items=12))


def test_a_server_has_no_divergence_to_propose(open_ones: Summary) -> None:
    served = replace(open_ones, conditions=tuple(replace(each, file_bytes=None) for each in open_ones.conditions))
    assert "divergence" not in settling_line(served)
