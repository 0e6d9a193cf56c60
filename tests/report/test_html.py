"""The HTML page: nothing that a model wrote gets out of its place, and everything that must be said is there."""

import base64
import hashlib
import re
import time
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.summaries import RIGHT, WRONG, answers, changed, make_summary

from quantexp.comparison.flips import flips, pair_answers
from quantexp.comparison.subgroups import parts
from quantexp.comparison.summary import Summary
from quantexp.comparison.wording import difference_text, reading, score_text
from quantexp.report.charts import charts
from quantexp.report.conclusions import verdict
from quantexp.report.html import changed_sections, protocol_groups, report_html
from quantexp.report.tables import how_to_read
from quantexp.report.text_diff import HEAD, TAIL, side_by_side
from quantexp.util.terminal import printable

VOID = {"meta", "br"}

EMPTY = Summary("t", "Q8_0", (), (), (), (), (), {})


class Page(HTMLParser):
    """A page taken apart; refuses tags that are not closed in their order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.preformatted: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag == "pre":
            self.preformatted.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))  # as in SVG

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))
        if "pre" in self._open:
            self.preformatted[-1] += data

    def all(self, name: str) -> list[str]:
        """Values of an attribute, in order."""
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key == name]

    def inside(self, tag: str) -> list[str]:
        """The text of each element of a kind that holds no other of it."""
        found: list[str] = []
        before: tuple[str, ...] = ()
        for place, text in self.texts:
            if tag in place:
                found[-1:] = [found[-1] + text] if tag in before else [*found[-1:], text]
            before = place
        return found

    @property
    def text(self) -> str:
        """All that is shown, on one line."""
        return " ".join(" ".join(text for place, text in self.texts if "style" not in place).split())


@pytest.fixture(scope="module")
def summary() -> Summary:
    """Three tasks, four quants, with flips and parts of one of them."""
    made = make_summary(items=30)
    one, *others = made.comparisons
    before = answers(RIGHT, WRONG, RIGHT, difficulty=[1, 1, 2])
    after = answers(WRONG, RIGHT, RIGHT, difficulty=[1, 1, 2])
    counted = replace(one, flips=flips(before, after), parts=parts(pair_answers(before, after), resamples=50))
    return replace(made, comparisons=(counted, *others))


@pytest.fixture(scope="module")
def page(summary: Summary) -> Page:
    rows = pd.concat([changed(("a\n#### 18", "b\n#### 20")), changed(("c", "d"), change="gained")])
    rows["quant"] = summary.comparisons[0].quant
    return Page(report_html(summary, charts(summary), rows))


def test_it_says_what_must_be_said(page: Page, summary: Summary) -> None:
    for sentence in (*verdict(summary), *summary.notes, *summary.refusals, *summary.failures):
        assert sentence in page.text
    for comparison in summary.comparisons:
        assert reading(comparison) in page.text
        assert " ".join(difference_text(comparison.difference)) in page.text
    for condition in summary.conditions:
        assert " ".join(score_text(condition.estimate)) in page.text
    for term, text in how_to_read(summary):
        assert f"{term}: {text}" if term else text in page.text
    for fact in (
        "1 job did not finish. 1 comparison was refused. Which, and why",
        "sha256:00ff",
        "Exploratory",
        "lost: 1",
    ):
        assert fact in page.text


def test_it_needs_nothing_else_and_allows_nothing_else(page: Page) -> None:
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base"})
    assert not any(name.startswith("on") or name in {"src", "style"} for _, of in page.tags for name in of)
    assert all(target.startswith(("#", "url(#")) for name in ("href", "clip-path") for target in page.all(name))
    [policy] = [of["content"] for tag, of in page.tags if of.get("http-equiv") == "Content-Security-Policy"]
    [style] = page.inside("style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\(|@import|expression", style)


def test_ids_are_unique_and_every_link_leads_somewhere(page: Page) -> None:
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    named = [target.removeprefix("#") for target in page.all("href")]
    named += re.findall(r"url\(#([^)]+)", " ".join(page.all("clip-path")))
    assert set(named) <= set(ids)


def test_every_chart_has_words_for_those_who_do_not_see_it(page: Page, summary: Summary) -> None:
    drawn = [of for tag, of in page.tags if tag == "svg"]
    assert len(drawn) >= 3 + 3 + 3 + 1
    for of in drawn:
        assert of["role"] == "img"
        assert len(of["aria-label"] or "") > 20
    told = " ".join(of["aria-label"] or "" for of in drawn)
    for comparison in summary.comparisons:
        assert f"{comparison.quant} {' '.join(difference_text(comparison.difference))}" in told


def test_every_table_has_headers_with_a_scope_and_can_be_scrolled_by_keyboard(page: Page) -> None:
    scopes = [of.get("scope") for tag, of in page.tags if tag == "th"]
    assert set(scopes) == {"col", "row", "rowgroup"}
    around = [of for _, of in page.tags if of.get("class") in {"scroll", "scroll main"}]
    assert len(around) == sum(tag == "table" for tag, _ in page.tags)
    assert all((of["tabindex"], of["role"]) == ("0", "group") and of["aria-label"] for of in around)


def test_the_same_results_give_the_same_page(summary: Summary) -> None:
    rows = changed(("x", "y"))
    assert report_html(summary, charts(summary), rows) == report_html(summary, charts(summary), rows)


@pytest.mark.parametrize(
    "made",
    [
        Summary("t", "Q8_0", (), (), (), (), ("All jobs failed.",), {}),
        make_summary(tasks=("gsm8k",), ladder=(("Q8_0", 8.5),), items=5),
        make_summary(models=("one", "two"), tasks=("a", "b"), items=8),
    ],
    ids=["nothing", "one job", "two models"],
)
def test_small_and_large_summaries_have_a_page(made: Summary) -> None:
    page = Page(report_html(made, charts(made)))
    assert verdict(made)[0] in page.text
    assert "Answers that changed" not in page.text
    for model in made.models():
        assert model in page.text
    assert len(set(page.all("id"))) == len(page.all("id"))


def test_speed_that_was_not_measured_is_said_to_be_missing(page: Page) -> None:
    assert "Speed was not measured on every task: Q8_0." in page.text


# What models wrote

MARKUP = (
    "<script>alert(1)</script>",
    "</pre>",
    "</style>",
    "<!--",
    "-->",
    "<![CDATA[",
    "&amp;",
    "&#0;",
    "{{ 1 }}",
    "'>",
)
CONTROLS = ("\x00", "\x1b[2J", "\u202e", "\u2066", "\u200b", "\u2028", "\ud800", "\r\n", "\n", "  ", "\t")
hostile = st.one_of(
    st.text(st.characters(), max_size=40),
    st.lists(st.sampled_from([*MARKUP, *CONTROLS, '"', "{% raw %}", "18", "#### "]), max_size=12).map("".join),
)


@given(hostile, hostile, st.lists(hostile, min_size=7, max_size=7))
@example("<script>alert('\u202e')</script>", "\n\n x \n", ["<b>", '"', "&", "'", "</a>", "{{ x }}", "\x07"])
def test_whatever_a_model_wrote_is_text(before: str, after: str, names: list[str]) -> None:
    title, task, quant, item, reference, extracted, prompt = names
    empty = Summary(title, "Q8_0", (), (), (title,), (quant,), (task,), {item: reference})
    rows = changed(
        (before, after),
        **{"task": task, "quant": quant, "item_id": item, "reference": reference},
        **{"baseline_extracted": extracted, "quant_extracted": reference, "prompt": prompt},
    )
    source = report_html(empty, (), rows)
    source.encode()
    assert printable(source) == source
    page = Page(source)
    plain = Page(report_html(replace(empty, title="t"), (), changed(("x", "y"))))
    outside = {"del", "ins"}
    kinds = [tag for tag, _ in page.tags if tag not in outside]
    assert kinds == [tag for tag, _ in plain.tags if tag not in outside]
    # A browser drops a line break at the beginning of each.
    assert page.preformatted[1:] == [f"\n{printable(before)}", f"\n{printable(after)}"]


def test_controls_are_shown_as_escapes() -> None:
    empty = Summary("\u202ereversed", "Q8_0", (), (), (), (), (), {})
    source = report_html(empty, (), changed(("\x1b[31mred\x00\u202etxt\ud800", "tab\there\u2028")))
    assert "\\x1b[31mred\\x00\\u202etxt\\ud800" in Page(source).text
    assert "\\u202ereversed" in Page(source).text
    assert not set("\x1b\x00\u202e\u2028") & set(source)


@given(st.text(max_size=200), st.text(max_size=200))
def test_two_outputs_side_by_side_are_whole_and_their_common_words_equal(before: str, after: str) -> None:
    left, right = side_by_side(before, after)
    assert "".join(piece.text for piece in left.head) == before
    assert "".join(piece.text for piece in right.head) == after
    same = ["".join(piece.text for piece in side.head if not piece.only_here) for side in (left, right)]
    assert same[0] == same[1]
    assert before != after or not any(piece.only_here for piece in left.head)


def test_only_the_words_that_differ_are_marked() -> None:
    left, right = side_by_side("9 - 2 = 7\n#### 7", "9 - 2 = 5\n#### 5")
    assert [piece.text for piece in left.head if piece.only_here] == [" 7", " 7"]
    assert [piece.text for piece in right.head if piece.only_here] == [" 5", " 5"]


few = st.lists(st.sampled_from(["ab", "c"]), max_size=9).map(" ".join)


@given(few, few)
def test_as_many_words_as_can_be_are_common(before: str, after: str) -> None:
    @cache
    def longest(left: tuple[str, ...], right: tuple[str, ...]) -> int:
        if not left or not right:
            return 0
        if left[0] == right[0]:
            return 1 + longest(left[1:], right[1:])
        return max(longest(left[1:], right), longest(left, right[1:]))

    first, _ = side_by_side(f" {before}", f" {after}")
    common = "".join(piece.text for piece in first.head if not piece.only_here)
    assert len(common.split()) == longest(tuple(before.split()), tuple(after.split()))


def test_a_model_that_repeats_itself_does_not_take_minutes() -> None:
    began = time.process_time()
    side_by_side("0 " * 5000, "0 1 " * 5000)
    assert time.process_time() - began < 10


def test_a_huge_output_is_cut_and_the_page_says_by_how_much() -> None:
    huge = "x" * 500_000 + "y " * 250_000
    left, _ = side_by_side(huge, "z")
    assert (left.cut, len("".join(p.text for p in left.head))) == (len(huge) - HEAD - TAIL, HEAD)
    source = report_html(Summary("t", "Q8_0", (), (), (), (), (), {}), (), changed((huge, huge), ("z", huge)))
    assert len(source) < 60_000
    assert f"{len(huge) - HEAD - TAIL:,} characters not shown" in Page(source).text


def test_lost_answers_come_before_gained_ones_and_the_rest_is_counted() -> None:
    rows = pd.concat([changed(*[("x", "y")] * 23), changed(*[("g", "h")] * 5, change="gained")])
    [section] = changed_sections(rows)
    assert [answer.change for answer in section.answers] == ["lost"] * 20 + ["gained"] * 5
    assert section.left_out == 3
    assert section.counts == {"lost": 23, "gained": 5, "another wrong answer": 0, "same score, other answer": 0}
    source = report_html(Summary("t", "Q8_0", (), (), (), (), (), {}), (), rows)
    assert "3 more are not shown here; the table flips.parquet has them." in Page(source).text


CHAT = (
    "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nSolve it.\nQuestion: {}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def test_what_was_asked_is_the_whole_chat_with_the_systems_words() -> None:
    chats = [CHAT.format(f"{n} + 1") for n in range(3)]
    earlier = changed(*[("x", "y")] * 3, prompt=chats)
    [section] = changed_sections(earlier)
    assert (section.beginning, [each.asked for each in section.answers]) == ("", chats), "no question is recorded"
    rows = earlier.assign(question=[f"Question: {n} + 1" for n in range(3)])
    [section] = changed_sections(rows)
    assert section.beginning.endswith("Solve it.\n")
    assert [section.beginning + each.asked for each in section.answers] == chats
    assert section.answers[2].asked.startswith("Question: 2 + 1<|im_end|>")
    assert Page(report_html(EMPTY, (), rows)).text.count("You are helpful.") == 1


@given(st.lists(st.tuples(st.text("ab\n", max_size=8), st.text("ab\n", max_size=2)), min_size=1, max_size=4))
def test_beginnings_and_the_rest_are_the_chats(chats: list[tuple[str, str]]) -> None:
    prompts, questions = map(list, zip(*chats, strict=True))
    [section] = changed_sections(changed(*[("x", "y")] * len(chats), prompt=prompts, question=questions))
    assert [section.beginning + each.asked for each in section.answers] == prompts


def test_of_a_very_long_chat_beginning_and_end_are_shown() -> None:
    [section] = changed_sections(changed(("x", "y"), prompt="a" * 10_000 + "z" * 10_000))
    assert re.fullmatch(r"a+\n… 16,000 characters not shown …\nz+", section.answers[0].asked)


def test_of_many_comparisons_each_shows_fewer() -> None:
    rows = pd.concat([changed(*[("x", "y")] * 20, quant=f"Q{number}") for number in range(30)])
    sections = changed_sections(rows)
    assert {len(section.answers) for section in sections} == {5}
    assert {section.left_out for section in sections} == {15}


def test_a_sample_is_named_where_there_are_several() -> None:
    assert changed_sections(changed(("x", "y")))[0].answers[0].name == "i0, seed 0"
    assert changed_sections(changed(("x", "y"), sample=1))[0].answers[0].name == "i0, seed 0, sample 1"


def test_every_fact_of_the_protocol_is_in_one_group() -> None:
    facts = {
        **{"data fingerprint (gsm8k)": "1", "file sha256 (m Q8_0)": "2", "model source": "3", "host.processor": "4"},
        **{"settings decoding": "greedy", "statistics": "s", "quantexp.version": "5"},
    }
    groups = {name: [fact for fact, _ in group] for name, group in protocol_groups(facts)}
    assert groups == {
        "Protocol": ["settings decoding", "statistics"],
        "Environment": ["host.processor", "quantexp.version"],
        "Fingerprints": ["data fingerprint (gsm8k)", "file sha256 (m Q8_0)", "model source"],
    }


def test_a_style_sheet_cannot_end_its_element(summary: Summary) -> None:
    [chart] = [chart for chart in charts(summary) if chart.key == "flips"]
    evil = replace(chart, panels=(replace(chart.panels[0], rules={"x": "</style>"}),))
    with pytest.raises(ValueError, match="style sheet"):
        report_html(summary, [evil])
