"""The written report: terminal table, CSV, markdown page, charts, and how files are written."""

import csv
import io
import re
import stat
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from tests.support.publications import make_job, publish
from tests.support.summaries import LADDER, make_summary

from quantexp.comparison.summary import Comparison, Condition, Summary
from quantexp.comparison.wording import reading
from quantexp.report import write_report
from quantexp.report.labels import spread
from quantexp.report.markdown import escape, report_markdown
from quantexp.report.model_card import write_card
from quantexp.report.tables import comparisons_table, conditions_table
from quantexp.report.terminal import comparison_table, show
from quantexp.stats import Method, at_k, compare, decide, estimate
from quantexp.util.files import write_atomically


def printed(summary: Summary, width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
        Console(file=file, width=width, legacy_windows=False).print(comparison_table(summary, width))
        file.flush()
        return raw.getvalue().decode(encoding)


def texts(source: str) -> list[str]:
    """The plain text of every table cell, as a GitHub-like renderer shows it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    cells = []
    for before, token in pairwise(tokens):
        if before.type in ("td_open", "th_open"):
            assert token.children is not None
            cells.append("".join(child.content for child in token.children))
    return cells


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_terminal_table_is_whole_at_any_usual_width(width: int) -> None:
    summary = make_summary()
    text = printed(summary, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    flat = " ".join(text.split())
    for condition in summary.conditions:
        assert condition.quant in flat
        assert f"{100 * condition.estimate.mean:.1f}" in flat
    for fact in ("data: bundled", "the prompts differ", "ran out of memory", "Holm for all 9 comparisons"):
        assert fact in flat
    if width == 160:
        for comparison in summary.comparisons:
            assert reading(comparison) in flat


def test_terminal_table_on_an_ascii_terminal() -> None:
    assert printed(make_summary(), 80, "ascii").isascii()


def test_terminal_table_does_not_read_names_as_markup() -> None:
    summary = make_summary(models=("[bold]m[/bold]",), tasks=("[/red]",))
    text = printed(summary, 120)
    assert "[bold]m[/bold]" in text
    assert "[/red]" in text


def test_an_unpaired_condition_is_shown_as_such() -> None:
    full = make_summary(tasks=("gsm8k",))
    summary = Summary(full.title, full.baseline, full.conditions, full.comparisons[1:], (), (), (), {})
    assert "not compared" in printed(summary, 100)
    assert texts(report_markdown(summary)).count("not compared") == 1


def test_csv_names_a_baseline_that_no_quant_could_exceed_by_the_margin() -> None:
    made = make_summary(tasks=("gsm8k",), ladder=LADDER[:2])
    [decision] = decide([found := compare([1.0] * 200, [1.0] * 200)], 0.02)
    full = replace(made, comparisons=(replace(made.comparisons[0], difference=found, decision=decision),))
    undecided = replace(made, comparisons=(replace(made.comparisons[0], decision=None),))
    for summary, shown in ((full, "True"), (undecided, "")):
        [row] = csv.DictReader(io.StringIO(comparisons_table(summary).format_csv()))
        assert row["at_ceiling"] == shown


def test_csv_keeps_every_digit() -> None:
    summary = make_summary(models=("a,b", 'say "x"'))
    rows = list(csv.DictReader(io.StringIO(comparisons_table(summary).format_csv())))
    assert len(rows) == len(summary.comparisons)
    for row, comparison in zip(rows, summary.comparisons, strict=True):
        d = comparison.difference
        assert (row["model"], row["quant"]) == (comparison.model, comparison.quant)
        for name in ("difference", "low", "high", "upper", "p_value", "baseline_mean", "quant_mean"):
            assert float(row[name]) == getattr(d, name)
        assert row["reading"] == reading(comparison)
        assert row["at_ceiling"] == "False"
        assert comparison.decision is not None
        assert (row["verdict"], row["margin"]) == (comparison.decision.verdict.value, "0.02")
        assert float(row["p_adjusted"]) == comparison.decision.p_adjusted
        assert (int(row["lost"]), int(row["gained"])) == (d.lost, d.gained)
    rows = list(csv.DictReader(io.StringIO(conditions_table(summary).format_csv())))
    for row, condition in zip(rows, summary.conditions, strict=True):
        assert float(row["bits_per_weight"]) == condition.bits_per_weight
        assert float(row["mean"]) == condition.estimate.mean
        assert int(row["file_bytes"]) == condition.file_bytes
        assert tuple(row["run_ids"].split()) == condition.run_ids
        speed = condition.tokens_per_second
        assert row["tokens_per_second"] == ("" if speed is None else repr(speed))


def test_markdown_says_what_must_be_said() -> None:
    summary = make_summary()
    page = report_markdown(summary)
    for fact in (
        "positive means the baseline is better",
        "95%",
        "correction for all 9 comparisons",
        "not evidence that the quant is as good as the baseline",
        "The margin is 2.0 points;",
        "data: bundled",
        "the prompts differ",
        "ran out of memory",
        "sha256:00ff",
        "(score_vs_bits.png)",
        "(score_vs_bits.svg)",
        "(comparisons.csv)",
    ):
        assert fact in page
    for task in ("gsm8k", "triviaqa", "extraction"):
        assert len(re.findall(rf"^- \*\*{task}\*\*: against the baseline Q8_0 at", page, re.M)) == 1
    cells = texts(page)
    for comparison in summary.comparisons:
        assert reading(comparison) in cells


def test_without_verdicts_the_page_reads_the_intervals_and_warns_of_p() -> None:
    page = report_markdown(make_summary(method=Method.bootstrap))
    assert "not corrected for the number of comparisons, here 9" in page
    assert "undecided: from" in page
    assert "margin" not in page


def test_markdown_and_table_mark_an_interval_without_width() -> None:
    score = estimate([1.0] * 9, resamples=50, method=Method.bootstrap)
    same = compare([1.0] * 9, [1.0] * 9, resamples=50, method=Method.bootstrap)
    rows = [Condition("m", q, "gsm8k", b, 1, score, 9, 1, "exact@1", None, ()) for q, b in (("Q8_0", 8.5), ("Q4", 4.9))]
    pair = Comparison("m", "gsm8k", "Q8_0", "Q4", same)
    summary = Summary("t", "Q8_0", tuple(rows), (pair,), (), (), (), {})
    assert "0.0 [0.0, 0.0]*" in texts(report_markdown(summary))
    for text in (report_markdown(summary), " ".join(printed(summary, 100).split())):
        assert "[100.0, 100.0]" in text
        assert "not evidence of equality" in text
    assert "not evidence of equality" not in report_markdown(make_summary())


# Control characters are left out: no renderer agrees on them.
outside_text = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp"), max_codepoint=0x2FFF)
    | st.sampled_from(" \n\t|\\`*_<>[]#~$!&-+=.)1"),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(outside_text)
@example("&amp; &#35; &lt;b>")
@example("1) a")
@example("- - -")
@example("Q4_K_M|IQ3_XXS\n_x_ __y__")
@example("[a](b) <i> `c` ![d](e) \\|")
def test_outside_text_is_shown_as_written(text: str) -> None:
    shown = " ".join(text.split())
    table = f"| {escape(text)} | x |\n| --- | --- |\n| {escape(text)} | y |\n"
    assert texts(table) == [shown, "x", shown, "y"]
    tokens = MarkdownIt("commonmark").enable("table").parse(f"- {escape(text)}\n")
    kinds = [token.type for token in tokens if token.type not in ("inline",)]
    paragraph = ["paragraph_open", "paragraph_close"] if shown else []
    item = ["list_item_open", *paragraph, "list_item_close"]
    assert kinds == ["bullet_list_open", *item, "bullet_list_close"]
    inline = [token for token in tokens if token.type == "inline"]
    assert ["".join(c.content for c in t.children or ()) for t in inline] == [shown][: len(inline)]


labels = st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 1)), min_size=1, max_size=8)


@given(labels)
def test_spread_keeps_order_and_room(rows: list[tuple[float, float]]) -> None:
    wanted, extents = [w for w, _ in rows], [e for _, e in rows]
    placed = spread(wanted, extents, 0.0, 10.0)
    order = sorted(range(len(rows)), key=lambda i: (wanted[i], placed[i]))
    for a, b in pairwise(order):
        assert placed[b] - placed[a] >= (extents[a] + extents[b]) / 2 - 1e-9
    for place, extent in zip(placed, extents, strict=True):
        assert place - extent / 2 >= -1e-9
        assert place + extent / 2 <= 10 + 1e-9


def test_spread_leaves_alone_what_has_room() -> None:
    assert spread([7.0, 1.0, 4.0], [1.0, 1.0, 1.0], 0.0, 10.0) == pytest.approx([7.0, 1.0, 4.0])
    assert spread([5.0, 5.0], [1.0, 1.0], 0.0, 10.0) == pytest.approx([4.5, 5.5])


def test_write_report_for_two_models(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    summary = make_summary(models=("org/one", "two"), tasks=("gsm8k",))
    files = write_report(summary, folder)
    charts = {f"score_vs_bits-{model}.{ending}" for model in ("org-one", "two") for ending in ("png", "svg")}
    everything = {folder / name for name in ("report.html", "report.md", "comparisons.csv", "conditions.csv", *charts)}
    assert set(folder.iterdir()) == everything == set(files)
    page = (folder / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert {folder / link for link in links} == everything - {folder / "report.md"}
    assert (folder / "comparisons.csv").read_text(encoding="utf-8") == comparisons_table(summary).format_csv()
    before = {path: path.read_bytes() for path in everything}
    write_report(summary, folder)
    assert {path: path.read_bytes() for path in everything} == before


def test_several_answers_to_an_item_have_a_table_of_their_own(tmp_path: Path) -> None:
    made = make_summary(tasks=("gsm8k",))
    drawn = at_k([1.0, 0.0, 0.0, 0.0], [1, 2, 2, 3], ["a", "a", "b", "b"], [0, 1, 0, 1])
    summary = replace(made, conditions=(replace(made.conditions[0], sampled=drawn), *made.conditions[1:]))
    assert tmp_path / "samples.csv" in write_report(summary, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "samples.csv").read_text(encoding="utf-8"))))
    assert [(row["quant"], row["k"], row["pass_at_k"], row["majority_at_k"]) for row in rows] == [
        ("Q8_0", "1", "0.25", "0.5"),
        ("Q8_0", "2", "0.5", "0.5"),
    ]
    for page in ("report.md", "report.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "Several answers to an item" in text
        assert "majority@k, points" in text


def test_a_card_of_results_without_verdicts_has_no_margin() -> None:
    results = publish(make_job([1.0])).model_copy(update={"protocol": {"statistics": "s"}})
    for method, told in (
        (Method.default, "Margin: 2.0 points. Inconclusive does not mean equal."),
        (Method.bootstrap, "Q8_0 is better. Undecided does not mean equal."),
    ):
        assert told in write_card(make_summary(tasks=("gsm8k",), method=method), results, {})


def test_write_report_when_everything_failed(tmp_path: Path) -> None:
    summary = Summary("t", "Q8_0", (), (), (), (), ("All jobs failed.",), {})
    write_report(summary, tmp_path)
    assert not [*tmp_path.glob("*.png")]
    assert "No score was recorded." in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "All jobs failed." in printed(summary, 80)
    assert len((tmp_path / "conditions.csv").read_text(encoding="utf-8").splitlines()) == 1


def test_the_report_is_a_link_in_a_terminal_and_a_plain_path_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a [b]" / "report.html"
    show(make_summary(tasks=("gsm8k",), items=5), path, "mlflow ui")
    assert f"\nreport  {path}\n" in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    show(make_summary(tasks=("gsm8k",), items=5), path, "mlflow ui")
    assert re.search(rf"\x1b]8;[^;]*;{re.escape(path.as_uri())}\x1b\\{re.escape(str(path))}", capsys.readouterr().out)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    write_atomically(path, b"old")
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ordinary", "report.md"]
