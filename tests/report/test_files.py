"""The written report: terminal table, CSV, markdown page, charts, and how files are written."""

import csv
import io
import re
import stat
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from tests.support.summaries import LADDER, make_summary

from quantexp.report import (
    Comparison,
    Condition,
    Summary,
    reading,
    write_report,
)
from quantexp.report.chart import SIGNS, headline_chart, save_chart
from quantexp.report.labels import spread
from quantexp.report.markdown import escape, report_markdown
from quantexp.report.terminal import comparison_table, comparisons_csv, conditions_csv, show
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
        [row] = csv.DictReader(io.StringIO(comparisons_csv(summary)))
        assert row["at_ceiling"] == shown


def test_csv_keeps_every_digit() -> None:
    summary = make_summary(models=("a,b", 'say "x"'))
    rows = list(csv.DictReader(io.StringIO(comparisons_csv(summary))))
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
    rows = list(csv.DictReader(io.StringIO(conditions_csv(summary))))
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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("tasks", "ladder"),
    [
        (1, (("Q8_0", 8.5),)),
        (6, (("Q8_0", 8.5),)),
        (1, LADDER),
        (3, (("F16", 16.0), ("a", 4.9), ("b", 5.1), ("c", 5.2), ("d", 6.3), ("e", 6.6))),
        (6, (("Q8_0", 8.5), *((f"Q{i}_K_M-imatrix-wikitext", 8.5 - i / 9) for i in range(7)))),
        (2, (("Q8_0", 8.5), ("twin of the same size", 8.5))),
    ],
)
def test_quant_and_task_names_do_not_overlap(tasks: int, ladder: tuple[tuple[str, float], ...]) -> None:
    names = [f"task_{i}" for i in range(tasks)]
    figure = headline_chart(make_summary(tasks=names, ladder=ladder), "Qwen2.5-7B-Instruct")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    axes = figure.axes[0]
    names_only = [text for text in axes.texts if text.get_text() not in SIGNS.values()]  # signs stand in their marks
    boxes = {t.get_text(): t.get_window_extent(renderer) for t in names_only}
    quants = {q if q != ladder[0][0] else f"{q} (baseline)" for q, _ in ladder}
    assert set(boxes) == quants | set(names)
    whole = figure.bbox
    placed = list(boxes.values())
    for i, box in enumerate(placed):
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
        assert not any(box.overlaps(other) for other in placed[:i])
    outer = [t.get_window_extent(renderer) for t in figure.texts]
    assert all(whole.x0 <= b.x0 <= b.x1 <= whole.x1 for b in outer)
    assert not any(box.overlaps(b) for b in outer for box in placed)


def test_chart_shows_means_bands_and_facts() -> None:
    summary = make_summary(tasks=("gsm8k",))
    figure = headline_chart(summary, "Qwen2.5-7B-Instruct")
    axes = figure.axes[0]
    ladder = sorted(summary.conditions, key=lambda c: c.bits_per_weight)
    points = [(c.bits_per_weight, c.estimate) for c in ladder]
    means = [(bits, score.mean) for bits, score in points]
    drawn = [np.column_stack(line.get_data()).tolist() for line in axes.lines]
    assert any([tuple(point) for point in line] == means for line in drawn)
    corners = np.asarray(axes.collections[0].get_paths()[0].vertices).tolist()
    for bits, score in points:
        assert [bits, score.low] in corners
        assert [bits, score.high] in corners
    low, high = axes.get_ylim()
    assert 0 <= low <= min(e.low for _, e in points)
    assert max(e.high for _, e in points) <= high <= 1
    assert ("not 0 to 100" in axes.get_ylabel()) == ((low, high) != (0, 1))
    words = " ".join(t.get_text() for t in figure.texts)
    for fact in ("Qwen2.5-7B-Instruct", "cliff | demo", "n = 60 items", "data: bundled", "a margin of 2.0 points"):
        assert fact in words
    signs = {(t.get_position()[0], t.get_text()) for t in axes.texts if t.get_text() in SIGNS.values()}
    place = {(c.task, c.quant): c.bits_per_weight for c in summary.conditions}
    decided = [c for c in summary.comparisons if c.decision]
    assert signs == {(place[c.task, c.quant], SIGNS[c.decision.verdict]) for c in decided if c.decision}
    assert all(f"{SIGNS[c.decision.verdict]} {c.decision.verdict.value}" in words for c in decided if c.decision)


def test_chart_of_an_unknown_model() -> None:
    with pytest.raises(ValueError, match="no score of nobody"):
        headline_chart(make_summary(), "nobody")


@pytest.mark.filterwarnings("error")
def test_charts_are_the_same_bytes_again_and_ignore_user_style(tmp_path: Path) -> None:
    summary = make_summary(tasks=("$a$_{b", "c"), models=("$x$ ^",))
    first = save_chart(headline_chart(summary, "$x$ ^"), tmp_path, "first")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        second = save_chart(headline_chart(summary, "$x$ ^"), tmp_path, "second")
        assert mpl.rcParams["font.size"] == 30
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in first[1].read_bytes()
    assert b"<dc:date>" not in first[1].read_bytes()


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
    assert [p.name for p in files.charts] == [
        "score_vs_bits-org-one.png",
        "score_vs_bits-org-one.svg",
        "score_vs_bits-two.png",
        "score_vs_bits-two.svg",
    ]
    everything = {files.html, files.markdown, files.comparisons_csv, files.conditions_csv, *files.charts}
    assert set(folder.iterdir()) == everything == set(files.all)
    page = files.markdown.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert {folder / link for link in links} == everything - {files.markdown}
    assert files.comparisons_csv.read_text(encoding="utf-8") == comparisons_csv(summary)
    before = {path: path.read_bytes() for path in everything}
    write_report(summary, folder)
    assert {path: path.read_bytes() for path in everything} == before


def test_several_answers_to_an_item_have_a_table_of_their_own(tmp_path: Path) -> None:
    made = make_summary(tasks=("gsm8k",))
    drawn = at_k([1.0, 0.0, 0.0, 0.0], [1, 2, 2, 3], ["a", "a", "b", "b"], [0, 1, 0, 1])
    summary = replace(made, conditions=(replace(made.conditions[0], sampled=drawn), *made.conditions[1:]))
    files = write_report(summary, tmp_path)
    assert files.samples_csv in files.all
    rows = list(csv.DictReader(io.StringIO((tmp_path / "samples.csv").read_text(encoding="utf-8"))))
    assert [(row["quant"], row["k"], row["pass_at_k"], row["majority_at_k"]) for row in rows] == [
        ("Q8_0", "1", "0.25", "0.5"),
        ("Q8_0", "2", "0.5", "0.5"),
    ]
    for page in (files.markdown, files.html):
        text = page.read_text(encoding="utf-8")
        assert "Several answers to an item" in text
        assert "majority@k, points" in text


def test_write_report_when_everything_failed(tmp_path: Path) -> None:
    summary = Summary("t", "Q8_0", (), (), (), (), ("All jobs failed.",), {})
    files = write_report(summary, tmp_path)
    assert files.charts == ()
    assert "No score was recorded." in files.markdown.read_text(encoding="utf-8")
    assert "All jobs failed." in printed(summary, 80)
    assert len(files.conditions_csv.read_text(encoding="utf-8").splitlines()) == 1


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
