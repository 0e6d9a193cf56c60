"""SVG shared by the charts of the HTML page: small panels, as part of the page.

A chart is several panels of one fixed size, which the page lays out in as many columns as fit; so words keep their size
on a phone. Text stays text. Colours are those of the page's style sheet, which has others for dark screens.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quantexp.report.csv_tables import Grid
from quantexp.report.labels import GRID, INK, LEADER, MUTED, Pen
from quantexp.stats import Verdict
from quantexp.util.terminal import printable

COLOURS = {
    INK: "ink",
    MUTED: "muted",
    LEADER: "leader",
    GRID: "rule",
    "#fefefe": "paper",
    "#0072b2": "line",
    "#00795b": "good",
    "#c24e0b": "bad",
    "#6b7281": "unsure",
}
"""What each colour of a panel is called in the page's style sheet. Those of marks are near Okabe and Ito's blue, bluish
green and vermillion, darkened to a contrast of 4.5 with white; shapes and signs say the same without colour."""

_, _, _, _, PAPER, LINE, GOOD, BAD, UNSURE = COLOURS

SHADES = {
    Verdict.within_margin: (GOOD, "o"),
    Verdict.worse: (BAD, "s"),
    Verdict.worse_within_margin: (LINE, "D"),
    Verdict.inconclusive: (UNSURE, "h"),
    Verdict.nothing_to_lose: (UNSURE, "v"),
}
"""Colour and shape of a mark for each verdict."""

SIZE = 8.5
"""Points of all words on a panel: 11.3 pixels of a browser."""

_PIXELS = 4 / 3
"""Of a browser, per point."""

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True)
class Panel:
    """One picture of a chart.

    Attributes:
        title: What it is of, such as the task.
        svg: An element for the page, without a style attribute.
        rules: The declarations of the classes in it.
    """

    title: str
    svg: str
    rules: Mapping[str, str]


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        key: Its id on the page: letters and `-`.
        title: What it shows, in a few words.
        about: How to read it, in sentences.
        panels: The pictures; may be empty where `missing` says why.
        numbers: What it shows as a table; None where the page's main table has it.
        missing: What it does not show, and why, in sentences.
    """

    key: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    numbers: Grid | None = None
    missing: tuple[str, ...] = field(default=())


@contextmanager
def panel_style() -> Iterator[None]:
    """Matplotlib's own defaults with the panels' sizes, whatever the user's matplotlibrc says, and restored after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                **{"svg.fonttype": "none", "svg.hashsalt": "quantexp", "font.family": "DejaVu Sans"},
                **{"font.size": SIZE, "axes.linewidth": 0.7, "axes.edgecolor": MUTED, "text.color": INK},
            }
        )
        yield


def blank(width: float, height: float, edges: tuple[float, float, float, float]) -> tuple[Figure, Axes, Pen]:
    """Return an empty panel, in inches.

    Args:
        width: Of the panel.
        height: Of the panel.
        edges: Room left of, below, right of and above the plot.
    """
    left, below, right, above = edges
    figure = Figure(figsize=(width, height), facecolor="none")
    place = (left / width, below / height, (width - left - right) / width, (height - below - above) / height)
    axes = figure.add_axes(place, facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=SIZE, length=3, width=0.7)
    axes.set_axisbelow(True)
    return figure, axes, Pen(figure)


def words(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write plain text, in data coordinates unless the style says otherwise."""
    axes.text(x, y, printable(" ".join(text.split())), parse_math=False, **style)


def shorten(text: str, longest: int = 26) -> str:
    """Return the text, cut in its middle when it is longer than so many characters."""
    line = printable(" ".join(text.split()))
    half = (longest - 1) // 2
    return line if len(line) <= longest else f"{line[:half]}…{line[-half:]}"


def render_panel(figure: Figure, title: str, key: str, alternative: str) -> Panel:
    """Return the panel of a figure: the same figure gives the same text.

    Args:
        figure: With its width and height in inches at the size that the words are meant to have.
        title: What it is of.
        key: A prefix for its ids, unique on the page: letters, digits and `-`.
        alternative: What it shows, in words.
    """
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawn = ElementTree.fromstring(out.getvalue())
    width, height = (float(each) for each in drawn.attrib["viewBox"].split()[2:])
    size = {"width": f"{width * _PIXELS:.0f}", "height": f"{height * _PIXELS:.0f}"}
    root = ElementTree.Element("svg", {"role": "img", "aria-label": printable(alternative), **size})
    root.set("viewBox", f"0 0 {width:g} {height:g}")
    rules: dict[str, str] = {}
    used = _used(drawn)
    for child in drawn:
        root.extend(_kept(child, key, used, rules))
    return Panel(title, ElementTree.tostring(root, encoding="unicode"), rules)


def _used(drawn: ElementTree.Element) -> dict[str, int]:
    """Return the ids that something refers to, numbered."""
    named = [value for each in drawn.iter() for name, value in each.attrib.items() if name != "id"]
    found = [match for value in named for match in re.findall(r"url\(#([^)]+)\)|^#(.+)", value)]
    return {id_: number for number, id_ in enumerate(dict.fromkeys(one or other for one, other in found))}


def _kept(
    element: ElementTree.Element, key: str, used: Mapping[str, int], rules: dict[str, str]
) -> Sequence[ElementTree.Element]:
    """Clean the element for the page: no metadata, no style of its own, no empty groups, ids of this panel only."""
    tag = element.tag.removeprefix(_SVG)
    if tag in {"metadata", "style"}:
        return []
    children = [each for child in element for each in _kept(child, key, used, rules)]
    if tag in {"g", "defs"} and not children:
        return []
    kept = ElementTree.Element(tag)
    for name, value in element.attrib.items():
        if name == "style":
            declared = _declared(value, tag)
            if declared:
                kept.set("class", name := f"q{hashlib.sha256(declared.encode()).hexdigest()[:8]}")
                rules[name] = declared
        elif name != "id" or value in used:
            here = re.sub(r"(?<=#)[^)]+", lambda match: f"{key}-{used[match[0]]}", value) if "#" in value else value
            kept.set(name.removeprefix(_XLINK), f"{key}-{used[value]}" if name == "id" else here)
    if tag == "g" and not kept.attrib:
        return children
    if tag == "path" and "d" in kept.attrib:
        kept.set("d", _rounded(" ".join(kept.attrib["d"].split())))
    kept.text = element.text if tag == "text" else None
    kept.extend(children)
    return [kept]


def _declared(style: str, tag: str) -> str:
    """Return the declarations of an element, with the colours by their names and the page's font."""
    parts = [part.strip() for part in style.split(";") if part.strip()]
    kept = [part for part in parts if not part.startswith("font-family")]
    if tag == "text" and not any(part.startswith("fill:") for part in kept):
        kept.append(f"fill: {INK}")
    declared = "; ".join(kept)
    for colour, name in COLOURS.items():
        declared = declared.replace(colour, f"var(--{name})")
    return declared


def _rounded(path: str) -> str:
    """Return a path with two decimals, a hundredth of a point."""
    return re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), path)
