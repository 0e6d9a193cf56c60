"""Files of charts: the page's panels with their names, facts and notes, the same bytes from the same results."""

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from tests.support.summaries import LADDER, make_summary

from quantexp.comparison.summary import Summary
from quantexp.report.chart_files import save_charts
from quantexp.report.charts import charts
from quantexp.report.svg import COLOURS, SIGNS

SVG = "{http://www.w3.org/2000/svg}"


def save(summary: Summary, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return save_charts(summary, charts(summary), folder)


def read_words(path: Path) -> str:
    """All that an SVG file says, on one line."""
    return " ".join("".join(each.itertext()) for each in ElementTree.parse(path).iter(f"{SVG}text"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("tasks", "ladder"),
    [
        (1, (("Q8_0", 8.5),)),
        (6, (("Q8_0", 8.5),)),
        (1, LADDER),
        pytest.param(
            *(3, (("F16", 16.0), ("a", 4.9), ("b", 5.1), ("c", 5.2), ("d", 6.3), ("e", 6.6))), marks=pytest.mark.slow
        ),
        pytest.param(
            *(6, (("Q8_0", 8.5), *((f"Q{i}_K_M-imatrix-wikitext", 8.5 - i / 9) for i in range(7)))),
            marks=pytest.mark.slow,
        ),
        (2, (("Q8_0", 8.5), ("twin of the same size", 8.5))),
    ],
)
def test_names_and_panels_do_not_overlap(tasks: int, ladder: tuple[tuple[str, float], ...], tmp_path: Path) -> None:
    names = [f"task_{i}" for i in range(tasks)]
    summary = make_summary(tasks=names, ladder=ladder)
    [scores] = [chart for chart in charts(summary) if chart.key == "scores"]
    for panel in scores.panels:
        renderer = FigureCanvasAgg(panel.figure).get_renderer()  # type: ignore[no-untyped-call]
        # Signs stand in their marks.
        texts = [text for text in panel.figure.axes[0].texts if text.get_text() not in SIGNS.values()]
        assert {text.get_text() for text in texts} == {*(quant for quant, _ in ladder), "measured bits per weight"}
        whole = panel.figure.bbox
        placed = [text.get_window_extent(renderer) for text in texts]
        for i, box in enumerate(placed):
            assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
            assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
            assert not any(box.overlaps(other) for other in placed[:i])
    png, svg = save(summary, tmp_path)
    sheet = ElementTree.parse(svg).getroot()
    width, height = (float(each) for each in sheet.attrib["viewBox"].split()[2:])
    boxes = [
        [float(each.attrib[name]) for name in ("x", "y", "width", "height")]
        for each in sheet.iter(f"{SVG}svg")
        if each is not sheet
    ]
    assert len(boxes) == tasks
    for i, (x, y, wide, high) in enumerate(boxes):
        assert 0 < x < x + wide < width
        assert 0 < y < y + high < height
        assert all(x >= a + c or a >= x + wide or y >= b + d or b >= y + high for a, b, c, d in boxes[:i])
    pixels = imread(png)
    assert pixels.shape[0] / pixels.shape[1] == pytest.approx(height / width, rel=0.01)
    for words in (*names, *(quant for quant, _ in ladder)):
        assert words in read_words(svg)


def test_a_file_shows_means_bands_and_facts(tmp_path: Path) -> None:
    summary = make_summary(tasks=("gsm8k",))
    [panel] = next(chart for chart in charts(summary) if chart.key == "scores").panels
    axes = panel.figure.axes[0]
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
    words = read_words(save(summary, tmp_path)[1])
    assert ("not 0 to 100" in words) == ((low, high) != (0, 1))
    for fact in ("Qwen2.5-7B-Instruct", "cliff | demo", "n = 60 items", "data: bundled", "a margin of 2.0 points"):
        assert fact in words
    signs = {(t.get_position()[0], t.get_text()) for t in axes.texts if t.get_text() in SIGNS.values()}
    place = {(c.task, c.quant): c.bits_per_weight for c in summary.conditions}
    decided = [c for c in summary.comparisons if c.decision]
    assert signs == {(place[c.task, c.quant], SIGNS[c.decision.verdict]) for c in decided if c.decision}
    assert all(f"{SIGNS[c.decision.verdict]} {c.decision.verdict.value}" in words for c in decided if c.decision)


@pytest.mark.filterwarnings("error")
def test_files_are_the_same_bytes_again_and_ignore_user_style(tmp_path: Path) -> None:
    summary = make_summary(tasks=("$a$_{b", "c\x07"), models=("$x$ ^",))
    first = save(summary, tmp_path / "first")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        second = save(summary, tmp_path / "second")
        assert mpl.rcParams["font.size"] == 30
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    drawing = first[1].read_text(encoding="utf-8")
    assert "$a$_{b" in drawing
    assert "<dc:date>" not in drawing
    # It stands alone: colours of a light page, and nothing left to the page's style sheet.
    assert "var(" not in drawing
    assert all(colour in drawing for colour, name in COLOURS.items() if name in {"ink", "line", "paper"})
    ids = re.findall(r' id="([^"]+)"', drawing)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawing)) == set(ids)
