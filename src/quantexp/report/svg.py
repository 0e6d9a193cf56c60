"""Panels: the small pictures that charts are made of, on the HTML page and in files.

All panels of a chart have one width. The page lays them out in as many columns as fit, so words keep their size on a
phone. Text stays text. Colours are those of the page's style sheet, which has others for dark screens.

Drawn with Matplotlib's objects on canvases of their own, never through pyplot, so that it needs no display and leaves
no figure behind.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from quantexp.comparison.summary import Summary
from quantexp.report.columns import Grid
from quantexp.report.coordinates import Coordinates
from quantexp.report.labels import FONT, GRID, INK, LEADER, MUTED, QuantNames, make_line
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

SHADES: Mapping[Verdict | None, tuple[str, str]] = {
    None: (LINE, "o"),
    Verdict.within_margin: (GOOD, "o"),
    Verdict.worse: (BAD, "s"),
    Verdict.worse_within_margin: (LINE, "D"),
    Verdict.inconclusive: (UNSURE, "h"),
    Verdict.nothing_to_lose: (UNSURE, "v"),
}
"""Colour and shape of a mark for each verdict, and without one."""

SIGNS = {
    Verdict.within_margin: "\u2713",
    Verdict.worse: "\u2717",
    Verdict.worse_within_margin: "\u2248",
    Verdict.inconclusive: "?",
    Verdict.nothing_to_lose: "\u2205",
}
"""What stands in a mark for each verdict: check mark, ballot X, almost equal to, question mark, empty set."""

SIZE = 8.5
"""Points of all words on a panel: 11.3 pixels of a browser."""

WIDTH = 3.6
"""Inches."""

DPI = 160
"""Of a file's pixels."""

_PLOT, _BELOW, _RIGHT = 1.75, 0.45, 0.3
"""Height of a plot over bits per weight, and the room below and right of it."""

_SMALLEST_SPAN = 0.1
"""Of a score axis: less would magnify noise into a landscape."""

_PIXELS = 4 / 3
"""Of a browser, per point."""

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True)
class Panel:
    """One picture of a chart.

    Attributes:
        model: Whose results it shows.
        title: What it is of, such as the task.
        beside: What is said beside the title; may be empty.
        figure: What was drawn.
        svg: The same as an element for the page, without a style attribute.
        rules: The declarations of the classes in it.
    """

    model: str
    title: str
    beside: str
    figure: Figure = field(compare=False, repr=False)
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
        file: What its files are called, see `Summary.chart_stems`; empty if it is on the page only.
        is_shared: Whether its panels are of all models together, so that it has one file.
    """

    key: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    numbers: Grid | None = None
    missing: tuple[str, ...] = ()
    file: str = ""
    is_shared: bool = False


@contextmanager
def panel_style() -> Iterator[None]:
    """Matplotlib's own defaults with the panels' sizes, whatever the user's matplotlibrc says, and restored after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                **{"svg.fonttype": "none", "svg.hashsalt": "quantexp", "font.family": FONT},
                **{"font.size": SIZE, "axes.linewidth": 0.7, "axes.edgecolor": MUTED, "text.color": INK},
            }
        )
        yield


def blank(height: float, left: float, below: float, right: float, above: float) -> tuple[Figure, Axes]:
    """Return an empty panel of a height, with room around its plot, all in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER)
    place = (left / WIDTH, below / height, (WIDTH - left - right) / WIDTH, (height - below - above) / height)
    axes = figure.add_axes(place, facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=SIZE, length=3, width=0.7)
    axes.set_axisbelow(True)
    return figure, axes


STROKES = ("-", "--", "-.", ":")
"""Of the curves of a panel, the first with the baseline's levels."""


def blank_over(coordinates: Coordinates, left: float = 0.5, also: Sequence[float] = ()) -> tuple[Figure, Axes]:
    """Return an empty panel over what conditions differ in, with their names above it.

    Args:
        coordinates: Of all conditions.
        left: Inches left of the plot.
        also: What the axis holds besides them.
    """
    places = [(place.x, place.name) for place in coordinates.places]
    named = QuantNames(sorted(set(places)), coordinates.baseline, (WIDTH - left - _RIGHT, _PLOT))
    above = named.height + 0.05
    figure, axes = blank(_BELOW + _PLOT + above, left, _BELOW, _RIGHT, above)
    bits = [*(place for place, _ in places), *also]
    room = max(0.08 * (max(bits) - min(bits)), 0.3)
    axes.set_xlim(min(bits) - room, max(bits) + room)
    named.draw(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    write_below(axes, coordinates.axis)
    return figure, axes


def name_curves(axes: Axes, coordinates: Coordinates) -> None:
    """Say which stroke is which, if there are several curves."""
    if len(coordinates.curves) > 1:
        axes.legend(loc="best", fontsize=7.0, frameon=False, labelcolor=INK, handlelength=2.4)


def scale_scores(axes: Axes, low: float, high: float) -> tuple[float, float]:
    """Set the axis of scores, in points, and return its limits: all of 0 to 1, or the data with some room."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if high - low > 0.6 or low < 0.0 or high > 1.0:
        limits = min(low, 0.0), max(high, 1.0)
    else:
        missing = max(0.0, _SMALLEST_SPAN - (high - low)) / 2
        room = 0.08 * max(high - low, _SMALLEST_SPAN) + missing
        bottom, top = floor(100 * (low - room)) / 100, ceil(100 * (high + room)) / 100
        limits = max(bottom, 0.0), min(top, 1.0)
    axes.set_ylim(*limits)
    return limits


def words(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write plain text, in data coordinates unless the style says otherwise."""
    axes.text(x, y, make_line(text), parse_math=False, **style)


def write_below(axes: Axes, text: str, x: float = 0.5, side: str = "center", rise: float = 0.02) -> None:
    """Write what an axis shows, at a share of its width, so many inches above the panel's lower edge."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # of an axes that `blank` has made
    place = blended_transform_factory(axes.transAxes, figure.transFigure)
    y = rise / figure.get_size_inches()[1]
    words(axes, x, y, text, transform=place, fontsize=SIZE, color=MUTED, ha=side, va="bottom")


def draw_mark(
    axes: Axes, x: float, y: float, verdict: Verdict | None, *, size: float = 5.5, is_hollow: bool = False
) -> None:
    """Draw a mark of a size, or a larger one with the sign of its verdict, so that no verdict depends on colour."""
    colour, shape = SHADES[verdict]
    inside, edge = (PAPER, colour) if is_hollow else (colour, PAPER)
    mark: dict[str, Any] = {"markerfacecolor": inside, "markeredgecolor": edge, "markeredgewidth": 0.8}
    mark |= {"markersize": 9.5 if verdict else size, "linestyle": "none", "clip_on": False, "zorder": 4}
    axes.plot([x], [y], marker=shape, **mark)
    if verdict is not None:
        sign: dict[str, Any] = {"fontsize": 6.5, "weight": "bold", "ha": "center", "va": "center_baseline", "zorder": 5}
        words(axes, x, y, SIGNS[verdict], color=edge, **sign)


def list_signs(summary: Summary) -> str:
    """Return the signs of the verdicts that there are, and what each means."""
    shown = {c.decision.verdict for c in summary.comparisons if c.decision is not None}
    return ", ".join(f"{sign} {verdict.value}" for verdict, sign in SIGNS.items() if verdict in shown)


def shorten(text: str, longest: int = 26) -> str:
    """Return the text, cut in its middle when it is longer than so many characters."""
    line = make_line(text)
    half = (longest - 1) // 2
    return line if len(line) <= longest else f"{line[:half]}…{line[-half:]}"


def render_panel(figure: Figure, model: str, title: str, alternative: str, beside: str = "") -> Panel:
    """Return the panel of a figure: the same figure gives the same text.

    Args:
        figure: With its width and height in inches at the size that the words are meant to have.
        model: Whose results it shows.
        title: What it is of.
        alternative: What it shows, in words; no two panels of a page show the same.
        beside: What is said beside the title.
    """
    root, rules = render_svg(figure, alternative)
    return Panel(model, title, beside, figure, ElementTree.tostring(root, encoding="unicode"), rules)


def render_svg(figure: Figure, alternative: str) -> tuple[ElementTree.Element, dict[str, str]]:
    """Return a figure as an element for a page, with the declarations of its classes; see `render_panel`."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawn = ElementTree.fromstring(out.getvalue())
    width, height = (float(each) for each in drawn.attrib["viewBox"].split()[2:])
    size = {"width": f"{width * _PIXELS:.0f}", "height": f"{height * _PIXELS:.0f}"}
    root = ElementTree.Element("svg", {"role": "img", "aria-label": printable(alternative), **size})
    root.set("viewBox", f"0 0 {width:g} {height:g}")
    rules: dict[str, str] = {}
    used, key = _used(drawn), f"p{hashlib.sha256(alternative.encode()).hexdigest()[:8]}"
    for child in drawn:
        root.extend(_kept(child, key, used, rules))
    return root, rules


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
