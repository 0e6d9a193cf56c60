"""Chart files: the page's panels of one model on a sheet, as PNG and as SVG, for slides and papers."""

import io
from collections.abc import Sequence
from itertools import accumulate
from math import ceil, sqrt
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from quantexp.comparison.summary import Summary
from quantexp.report.caveats import MOST, shorten_note
from quantexp.report.labels import FONT, INK, LINE_SPACING, MUTED, measure_height, wrap
from quantexp.report.svg import COLOURS, DPI, PAPER, SIZE, WIDTH, Chart, Panel, panel_style, render_svg, shorten
from quantexp.util.files import write_atomically

_GAP = 0.2
_TITLE_SIZE, _SUBTITLE_SIZE, _NOTE_SIZE = 13.0, 9.5, 7.5
_LINE = 0.18
"""Inches that a panel's title takes, and what is said beside it."""

_Placed = tuple[Panel, float, float]
"""A panel, and where its upper left corner is, in inches from that of the sheet."""


def save_charts(summary: Summary, charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write the charts that have files, PNG then SVG of each model's; the same charts give the same bytes.

    Raises:
        OSError: A file cannot be written.
    """
    paths = []
    for chart in (each for each in charts if each.file):
        of_all = dict.fromkeys((panel.model for panel in chart.panels), chart.file)
        for model, stem in (of_all if chart.is_shared else summary.chart_stems(chart.file)).items():
            if panels := [panel for panel in chart.panels if panel.model == model]:
                with panel_style():
                    sheet, placed = _lay_out(summary, chart, model, panels)
                    files = {
                        f"{stem}.svg": _format_svg(sheet, placed, f"{model}: {chart.title}"),
                        f"{stem}.png": _format_png(sheet, placed),
                    }
                for name, content in sorted(files.items()):
                    paths.append(folder / name)
                    write_atomically(paths[-1], content)
    return paths


def _lay_out(summary: Summary, chart: Chart, model: str, panels: Sequence[Panel]) -> tuple[Figure, list[_Placed]]:
    """Return a sheet with all its words, and where the panels go, in rows."""
    columns = min(3, ceil(sqrt(len(panels))))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = columns * (WIDTH + _GAP) + _GAP
    title = wrap(model, width - 2 * _GAP, _TITLE_SIZE, "bold")
    subtitle = wrap(f"{summary.title}: {chart.title[0].lower()}{chart.title[1:]}", width - 2 * _GAP, _SUBTITLE_SIZE)
    said = [chart.about, *map(shorten_note, summary.notes[:MOST])]
    notes = [line for note in said for line in wrap(note, width - 2 * _GAP, _NOTE_SIZE)]
    below_title = _GAP + measure_height(title, _TITLE_SIZE)
    head = below_title + measure_height(subtitle, _SUBTITLE_SIZE) + _GAP
    caption = 2 * _LINE if any(panel.beside for panel in panels) else _LINE
    heights = [caption + max(panel.figure.get_figheight() for panel in row) + _GAP for row in rows]
    *tops, foot = accumulate(heights, initial=head)
    sheet = Figure(figsize=(width, foot + measure_height(notes, _NOTE_SIZE) + _GAP), dpi=DPI, facecolor=PAPER)
    _write(sheet, _GAP, _GAP, title, _TITLE_SIZE, INK, "bold")
    _write(sheet, _GAP, below_title, subtitle, _SUBTITLE_SIZE, MUTED)
    _write(sheet, _GAP, foot, notes, _NOTE_SIZE, MUTED)
    placed = []
    for row, top in zip(rows, tops, strict=True):
        for column, panel in enumerate(row):
            left = _GAP + column * (WIDTH + _GAP)
            _write(sheet, left, top, [shorten(panel.title, 40)], SIZE, INK, "bold")
            _write(sheet, left, top + _LINE, [panel.beside], _NOTE_SIZE, MUTED)
            placed.append((panel, left, top + caption))
    return sheet, placed


def _write(
    sheet: Figure, left: float, top: float, lines: Sequence[str], size: float, color: str, weight: str = "normal"
) -> None:
    """Put lines of plain text on a sheet; `$` and `_` have no meaning in them."""
    width, height = sheet.get_size_inches()
    place = left / width, 1 - top / height, "\n".join(lines)
    style: dict[str, Any] = {
        "fontsize": size,
        "color": color,
        "weight": weight,
        "va": "top",
        "linespacing": LINE_SPACING,
    }
    sheet.text(*place, parse_math=False, **style)


def _format_svg(sheet: Figure, placed: Sequence[_Placed], name: str) -> bytes:
    """Return the sheet with the page's own pictures on it, in the colours of a light page."""
    root, rules = render_svg(sheet, name)
    for panel, left, top in placed:
        picture = ElementTree.fromstring(panel.svg)
        width, height = picture.attrib["viewBox"].split()[2:]
        picture.attrib |= {"x": f"{72 * left:g}", "y": f"{72 * top:g}", "width": width, "height": height}
        root.append(picture)
        rules |= panel.rules
    style = f"svg {{ font-family: '{FONT}', sans-serif; overflow: visible }}\n"
    style += "".join(f".{name} {{ {declared} }}\n" for name, declared in sorted(rules.items()))
    for colour, name in COLOURS.items():
        style = style.replace(f"var(--{name})", colour)
    ground = ElementTree.Element("rect", {"width": "100%", "height": "100%", "fill": PAPER})
    root[:0] = [element := ElementTree.Element("style"), ground]
    element.text = style
    root.attrib = {"xmlns": "http://www.w3.org/2000/svg", **root.attrib, "role": "group"}
    return ElementTree.tostring(root, encoding="unicode").encode()


def _format_png(sheet: Figure, placed: Sequence[_Placed]) -> bytes:
    """Return the sheet with the panels' figures on it."""
    for panel, left, top in placed:
        canvas = FigureCanvasAgg(panel.figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        below = sheet.get_figheight() - top
        sheet.figimage(pixels, round(DPI * left), round(DPI * below) - len(pixels))
    out = io.BytesIO()
    sheet.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
