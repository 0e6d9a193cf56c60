"""What stands beside a verdict, and sentences that must not claim more than there is: one item, one quant, none."""

from dataclasses import replace

import pytest
from tests.report.test_files import printed
from tests.report.test_html import Page
from tests.support.summaries import LADDER, make_summary

from quantexp.comparison.summary import Divergence, Registered, Summary
from quantexp.report.caveats import LONGEST, MOST, select_caveats
from quantexp.report.charts import charts
from quantexp.report.conclusions import sentences, verdict
from quantexp.report.html import report_html
from quantexp.report.markdown import description, report_markdown
from quantexp.stats import Interval, Method, divergence_summary
from quantexp.tracking.registration import Registration

EMPTY = Summary("t", "Q8_0", (), (), (), (), (), {})


def test_what_is_missing_comes_first_and_the_rest_is_counted() -> None:
    declared = Registration("", "0" * 64, "2026-01-02T03:04:05+00:00", "c" * 40, 0)
    summary = replace(
        make_summary(items=8),
        failures=("job one ran out of memory.",),
        refusals=("run two asks in other words.",),
        registered=Registered(declared, "", ("stats.margin was declared as 0.02 and is 0.05.",), ()),
        notes=tuple(f"note {number}." for number in range(9)),
    )
    assert select_caveats(summary) == (
        [
            "Failed: job one ran out of memory.",
            "Not compared: run two asks in other words.",
            "Changed since it was declared: stats.margin was declared as 0.02 and is 0.05.",
            "Note: note 0.",
            "Note: note 1.",
        ],
        7,
    )
    terminal = printed(summary, 100)
    assert sum(line.startswith(("Failed", "Not compared", "Changed", "Note")) for line in terminal.splitlines()) == MOST
    assert "and 7 more in the report" in terminal
    for whole in (report_markdown(summary), Page(report_html(summary, ())).text):
        assert all(note in whole for note in summary.notes)


def test_a_note_is_told_in_short_and_reported_whole() -> None:
    short, details = "Answers were cut off.", "Which is why nothing more is known."
    summary = replace(EMPTY, notes=(f"{short}\n{details}", "word " * LONGEST))
    (first, second), more = select_caveats(summary)
    assert (first, more) == (f"Note: {short}", 0)
    assert len(second) <= LONGEST + len("Note: ")
    assert second.endswith(" ...")
    assert details not in printed(summary, 100)
    for whole in (report_markdown(summary), Page(report_html(summary, ())).text):
        assert f"{short} {details}" in whole
        assert "word " * (LONGEST - 1) in whole


def test_the_verdict_stands_before_the_table_and_this_before_caveats_and_charts() -> None:
    summary = make_summary(items=8)
    for page, places in {
        report_markdown(summary): ("## Outcome", "## Comparison", "## Caveats", "score_vs_bits.png", "## Notes"),
        report_html(summary, charts(summary)): (
            *('<section id="verdict"', '<section id="table"', '<ul class="caveats"'),
            *('<section id="differences"', '<section id="notes"'),
        ),
    }.items():
        found = [page.index(place) for place in places]
        assert found == sorted(found)
    assert "ran out of memory" in description(summary)


ONE = make_summary(tasks=("gsm8k",), ladder=LADDER[:2], items=9)
EDGES = {
    "one quant": ONE,
    "one item": make_summary(tasks=("gsm8k",), ladder=LADDER[:2], items=1),
    "one item, no verdicts": make_summary(tasks=("gsm8k",), ladder=LADDER[:2], items=1, method=Method.bootstrap),
    "the baseline alone": make_summary(tasks=("gsm8k",), ladder=LADDER[:1], items=9),
    "no baseline": replace(ONE, conditions=ONE.conditions[1:], comparisons=()),
    "nothing compared": replace(ONE, comparisons=()),
    "all failed": replace(EMPTY, failures=("All jobs failed.",)),
    "two models": make_summary(models=("one", "two"), tasks=("gsm8k",), ladder=LADDER[:2], items=9),
}


@pytest.mark.parametrize("made", EDGES.values(), ids=list(EDGES))
def test_no_sentence_claims_more_than_there_is(made: Summary) -> None:
    made = replace(made, refusals=())
    html = Page(report_html(made, charts(made))).text
    for text in (report_markdown(made), html, " ".join(printed(made, 200).split()), " ".join(sentences(made))):
        assert "all 1 " not in text
        assert "all 0 " not in text
        assert "very run could be paired" not in text
        if len({c.task for c in made.conditions}) == 1:
            assert "every task" not in text
            assert "at least one task" not in text
        if len(made.comparisons) <= 1:
            assert "Holm's correction" not in text
            assert "after Holm for" not in text
    pairing = {0: "Nothing was compared, and nothing refused.", 1: "both runs of the one comparison fit each other"}
    assert pairing.get(len(made.comparisons), "the runs of all 2 comparisons fit each other") in html


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("the baseline alone", "There are scores of the baseline Q8_0 alone: run a quant to compare with it."),
        ("no baseline", "There are scores of Q5_K_M, and none of the baseline Q8_0: run it, or set stats.baseline."),
        ("nothing compared", "No run of Q5_K_M fits one of the baseline Q8_0."),
        ("all failed", "A comparison needs scores of the baseline Q8_0 and of a quant; there are none."),
    ],
)
def test_where_nothing_was_compared_it_says_what_is_lacking(name: str, sentence: str) -> None:
    assert verdict(EDGES[name]) == ("Nothing was compared.", sentence)


def test_each_model_has_a_verdict_of_its_own() -> None:
    several = make_summary(models=("one", "two"), tasks=("gsm8k",), ladder=LADDER, items=400)
    first, second = verdict(several)
    of_one, of_two = first.split(" two: ")
    assert of_one.startswith("one: ")
    for told in (of_one, of_two):
        assert all(told.count(quant) == 1 for quant, _ in LADDER[1:])
    assert second.count(" of one ") == second.count(" of two ") == 1
    alone = replace(
        several,
        conditions=tuple(c for c in several.conditions if c.model == "two"),
        comparisons=tuple(c for c in several.comparisons if c.model == "two"),
    )
    assert first.endswith(f" two: {verdict(alone)[0]}")


def diverged(means: dict[tuple[str, str], tuple[float, float, float]]) -> Summary:
    """A summary with these mean divergences, by task and quant, and their intervals."""
    made = make_summary(tasks=tuple(dict.fromkeys(task for task, _ in means)), items=9)
    found = divergence_summary([0.1, 0.2], [True, True], [-0.1, -0.2], [-0.1, -0.2], ["a", "b"])
    return replace(
        made,
        comparisons=tuple(
            replace(c, divergence=Divergence(replace(found, mean=Interval(*means[c.task, c.quant])), 2, (), "answers"))
            for c in made.comparisons
        ),
    )


NEAR, MIDDLE, FAR = (0.01, 0.008, 0.012), (0.02, 0.015, 0.025), (0.2, 0.1, 0.3)


@pytest.mark.parametrize(
    ("means", "sentence"),
    [
        (
            {("a", "Q5_K_M"): MIDDLE, ("a", "Q4_K_M"): NEAR, ("a", "Q3_K_M"): FAR},
            "By divergence, the nearest to Q8_0 first: Q4_K_M, then Q5_K_M, then Q3_K_M on a.",
        ),
        (
            {
                (task, q): m
                for task in "ab"
                for q, m in zip(("Q5_K_M", "Q4_K_M", "Q3_K_M"), (NEAR, NEAR, FAR), strict=True)
            },
            "By divergence, the nearest to Q8_0 first: Q5_K_M or Q4_K_M, then Q3_K_M on every task.",
        ),
    ],
)
def test_divergence_ranks_the_quants_beside_the_verdict_where_intervals_are_apart(
    means: dict[tuple[str, str], tuple[float, float, float]], sentence: str
) -> None:
    summary = diverged(means)
    assert sentence in sentences(summary)
    for page in (report_markdown(summary), Page(report_html(summary, ())).text):
        assert sentence in page
    assert "By divergence" not in report_markdown(make_summary(items=9))
